"""Defences, each with the edit that takes it away and a test of an attack that it stops. See prove.py."""

from __future__ import annotations

from typing import NamedTuple


class Removal(NamedTuple):
    """``old`` occurs once in ``file`` and becomes ``new``; then ``test`` (a pytest node, or the start of several) fails."""

    attack: str
    file: str
    old: str
    new: str
    test: str


WIRE = "producer/wire/"
A = "tests/attacks/test_attack_"
TOOLS, WORKER, TEXT, GATEWAY, PLAN = (
    f"{A}{name}.py::" for name in ("tools", "worker", "text", "gateway", "sandbox_plan")
)
SHELL = f"{A}sandbox_shell.py::"
KEYS, GATES = "tests/wire/test_wire_keys.py::", "tests/web/test_web_gates.py::"
JSON = f"{TEXT}test_json_that_is_not_plain_is_refused"
REFUSED = f"{TOOLS}test_what_is_refused"
CONFIG = f"{TEXT}test_a_configuration_is_refused_in_one_line"
PRICE = f"{GATEWAY}test_what_has_no_price_does_not_leave"

REMOVALS = (
    # JSON and messages
    Removal("NaN in JSON", f"{WIRE}codec.py", "parse_constant=_no_constant)", "parse_constant=float)", JSON),
    Removal("1e999 in JSON", f"{WIRE}codec.py", "parse_float=_finite, ", "", JSON),
    Removal("a key twice in JSON", f"{WIRE}codec.py", "object_pairs_hook=_unique, parse_float", "parse_float", JSON),
    Removal("a lone surrogate in JSON", f"{WIRE}codec.py", 'if b"\\\\u" in body:', "if False:", JSON),
    Removal("JSON of 33 levels", f"{WIRE}codec.py", "if _maybe_deep(body) and nesting(value) > MAX_DEPTH:", "if False:", JSON),
    Removal("JSON of 100,000 levels", f"{WIRE}codec.py", "except (ValueError, RecursionError) as error:", "except ValueError as error:", JSON),
    Removal("a cost below nothing", f"{WIRE}messages.py", "Micros = Annotated[int, Meta(ge=0, le=MOST)]", "Micros = int", f"{WORKER}test_results[a cost below nothing]"),
    Removal("survivors below none", f"{WIRE}messages.py", "Count = Annotated[int, Meta(ge=0, le=MOST)]", "Count = int", f"{WORKER}test_results[survivors below none]"),
    Removal("a session that is a path", f"{WIRE}messages.py", 'Session = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\\Z")]', "Session = str", f"{WORKER}test_results[a session that is a path]"),
    Removal("a throttle without end", f"{WIRE}messages.py", "Seconds = Annotated[float, Meta(ge=0, le=1e11)]", "Seconds = float", f"{WORKER}test_results[a throttle that never ends]"),
    # who speaks
    Removal("a nursery outside every sandbox", "producer/workers/porter.py", 'hmac.compare_digest(workers_unit.proof(tokens.secret(places)), str(request["proof"]))', "True", "tests/process/test_process_workers_unit.py::test_a_nursery_needs_the_proof"),
    Removal("a result for another's attempt", "producer/supervisor/runs.py", "peer.role != run.role or peer.name != run.worker:", "False:", f"{WORKER}test_a_result_for_anothers_attempt_is_a_forgery"),
    Removal("a result for an attempt of one's own role", "producer/supervisor/runs.py", "peer.role != run.role or peer.name != run.worker:", "peer.role != run.role:", f"{WORKER}test_a_result_for_an_attempt_of_ones_own_role_is_a_forgery_too"),
    Removal("a tool in another's name", "producer/supervisor/control.py", 'peer.kind != "worker" or run.worker != peer.name:', "False:", f"{WORKER}test_a_tool_called_in_the_name_of_anothers_attempt"),
    Removal("a worker's key on an operator's socket", f"{WIRE}auth.py", "if peer and peer.kind not in", "if False and peer.kind not in", f"{WORKER}test_a_workers_key_opens_no_operators_socket"),
    Removal("a connection that calls itself another", f"{WIRE}server.py", 'if name == "tasks" and address != peer.name.encode():', "if False:", f"{KEYS}test_the_peer_is_that_of_the_key_whatever_the_connection_calls_itself"),
    Removal("a key that nobody issued", f"{WIRE}auth.py", "peer = self.keys.who(z85.encode(credentials[0]))", 'peer = self.keys.who(z85.encode(credentials[0])) or Peer("operator", "operator")', f"{KEYS}test_a_stranger_is_not_heard"),
    Removal("a message over the limit", f"{WIRE}transport.py", "    socket.setsockopt(zmq.MAXMSGSIZE, MAX_BODY + 1024)\n", "", f"{KEYS}test_a_message_over_the_limit_ends_the_connection_and_not_the_server"),
    Removal("a crowd that says nothing", f"{WIRE}door.py", "if len(self.unknown) > self._most:", "if False:", f"{A}wire.py::test_a_crowd_that_says_nothing_leaves_room_for_the_others"),
    Removal("a greeting, and then silence", f"{WIRE}server.py", "socket.setsockopt(zmq.HANDSHAKE_IVL, int(HANDSHAKE * 1000))", "socket.setsockopt(zmq.HANDSHAKE_IVL, 0)", f"{A}wire.py::test_who_begins_and_is_silent_is_cut_off_in_time"),
    Removal("a file that sends everybody elsewhere", "producer/places.py", "if isinstance(found, str) and found.startswith(LOOPBACK) else None", "if isinstance(found, str) else None", "tests/wire/test_wire_tcp.py::test_a_file_that_names_no_loopback_address_leads_nowhere"),
    Removal("a name that is a path", f"{WIRE}auth.py", "if not _NAME.fullmatch(name):", "if False:", f"{KEYS}test_a_name_cannot_leave_the_directory"),
    Removal("a message that breaks the loop for ever", "producer/supervisor/suspects.py", "return bool(self._failed) and ", "return False and ", f"{A}poison.py::test_only_what_is_the_messages_fault_is_held_against_it"),
    Removal("memory full of suspects", "producer/supervisor/suspects.py", "if len(self._failed) >= _MOST:", "if False:", f"{A}poison.py::test_it_does_not_grow_without_end"),
    # what an agent files
    Removal("a role that there is not", "producer/ledger/checks.py", "if known and role not in known:", "if False:", REFUSED),
    Removal("a description over the limit", "producer/ledger/checks.py", "if size > limit:", "if False:", REFUSED),
    Removal("a title of spaces", "producer/ledger/checks.py", "if not isinstance(value, str) or not value.strip():", "if not isinstance(value, str):", REFUSED),
    Removal("a payload too deep", "producer/ledger/checks.py", "    if deep:", "    if False:", REFUSED),
    Removal("a title or payload over the limit", "producer/core/guards.py", "if size > limit:", "if False:", REFUSED),
    Removal("audit rows without end", "producer/supervisor/complaints.py", "if count.rows < MOST:", "if True:", f"{WORKER}test_a_flood_does_not_fill_the_audit_log[ipc]"),
    Removal("a queue bomb", "producer/core/guards.py", "if filed >= limits.filed_per_attempt:", "if False:", f"{TOOLS}test_an_agent_files_no_more_than_its_share"),
    Removal("records without end", "producer/core/guards.py", "if recorded >= RECORDED_PER_ATTEMPT:", "if False:", f"{TOOLS}test_an_agent_records_no_more_than_its_share"),
    Removal("the same task again", "producer/core/guards.py", "if similar(new, old) >= threshold:", "if False:", f"{TOOLS}test_the_same_again_is_refused"),
    Removal("an id that is a path", "producer/ledger/checks.py", 're.fullmatch("[A-Za-z0-9_-]{1,64}", text)', 're.match("[A-Za-z0-9_-]{1,64}", text)', f"{TEXT}test_an_id_names_no_path"),
    # text
    Removal("C1 controls to the terminal", "producer/core/text.py", "\\x7f-\\x9f", "\\x7f", f"{TEXT}test_a_terminal_is_steered_by_nobody"),
    Removal("bidirectional controls to the terminal", "producer/core/text.py", "\\u2029{_BIDI}", "\\u2029", f"{TEXT}test_a_terminal_is_steered_by_nobody"),
    Removal("surrogates to the terminal", "producer/core/text.py", "{_BIDI}\\ud800-\\udfff]", "{_BIDI}]", f"{TEXT}test_a_terminal_is_steered_by_nobody"),
    Removal("Markdown in a title", "producer/core/text.py", 'return _MARKUP.sub(r"\\\\\\1", one_line(text, longest))', "return one_line(text, longest)", f"{TEXT}test_a_title_in_markdown_is_one_line_of_plain_text"),
    Removal("a fence within a fence", "producer/supervisor/escalation.py", "while fence in text:", "while False:", f"{TEXT}test_an_agents_words_stay_in_their_fence"),
    Removal("a line end in a push's title", "producer/core/notice.py", 'one_line(f"{prefix}: {title}" if prefix.strip() else title, TITLE)', 'f"{prefix}: {title}"[:TITLE]', f"{TEXT}test_a_push_is_one_title_of_one_line_and_no_header"),
    # configuration and switch
    Removal("aliases and tags in YAML", "producer/config/tree.py", "                self.refuse_extras(event, line)\n", "", CONFIG),
    Removal("a second document in YAML", "producer/config/tree.py", "if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:", "if False:", CONFIG),
    Removal("a switch that dangles", "producer/killswitch.py", "dangling = os.path.islink(path)", "dangling = False", f"{TEXT}test_the_switch_is_armed_by_whatever_lies_there"),
    Removal("a switch that is nearly 0", "producer/killswitch.py", "if content.strip() == DISARMED:", "if content.strip().startswith(DISARMED):", f"{TEXT}test_the_switch_is_armed_by_whatever_lies_there"),
    Removal("a directory for a switch", "producer/killswitch.py", "    try:\n        content, since", "    try:\n        if Path(path).is_dir():\n            return SwitchState(armed=False)\n        content, since", f"{TEXT}test_the_switch_is_armed_by_whatever_lies_there"),
    # git
    Removal("hooks of a repository", "producer/git.py", '    "core.hooksPath": "/dev/null",\n', "", f"{TEXT}test_git_as_we_run_it"),
    Removal("a file system monitor", "producer/git.py", '    "core.fsmonitor": "false",\n', "", f"{TEXT}test_git_as_we_run_it"),
    Removal("a signing program", "producer/git.py", '    "commit.gpgSign": "false",\n', "", f"{TEXT}test_git_as_we_run_it"),
    Removal("a filter", "producer/git.py", "self._settings = FIXED | self._drivers()", "self._settings = FIXED", f"{TEXT}test_git_as_we_run_it"),
    # the gateway
    Removal("a path of the API behind a model's name", "producer/gateway/app.py", "if name is not None and not _MODEL.fullmatch(name):", "if False:", f"{GATEWAY}test_no_other_path_of_the_api_is_reached"),
    Removal("a forged token", f"{WIRE}tokens.py", "match and hmac.compare_digest(match[2], _digest(key, match[1]))", "match", f"{GATEWAY}test_a_token_that_is_not_an_open_attempts_is_worth_nothing"),
    Removal("a body without end", "producer/gateway/asgi.py", "if size > limit:", "if False:", f"{GATEWAY}test_a_body_over_the_limit_is_refused"),
    Removal("two prices in one body", "producer/gateway/clamp.py", "object_pairs_hook=_unique, ", "", f"{GATEWAY}test_a_body_that_is_no_request"),
    Removal("two prices in one body, by the short way", "producer/gateway/clamp.py", "if orjson.dumps(value) == raw else None", "", f"{GATEWAY}test_a_body_that_is_no_request"),
    Removal("an endless number in a body", "producer/gateway/clamp.py", "parse_float=_finite, ", "", f"{GATEWAY}test_a_body_that_is_no_request"),
    Removal("a body too deep to be written again", "producer/gateway/prompt.py", "if nesting(value, DEEPEST) > DEEPEST:", "if False:", "tests/gateway/test_gateway_clamp.py::test_depth_is_refused_before_it_ends_anything"),
    Removal("a dear cache mark written oddly", "producer/gateway/clamp.py", "text.rfind(ONE_HOUR)", "raw.rfind(ONE_HOUR)", "tests/gateway/test_gateway_clamp.py::test_a_dear_cache_mark_is_seen_however_it_is_written"),
    Removal("servers and containers of one's own", "producer/gateway/clamp.py", 'for key in ("mcp_servers", "container"):', "for key in ():", PRICE),
    Removal("max_tokens below 1", "producer/gateway/clamp.py", 'if type(body.get("max_tokens")) is not int or body["max_tokens"] < 1:', "if False:", PRICE),
    Removal("a tool without a price", "producer/gateway/clamp.py", "if not isinstance(kind, str) or not kind.startswith(CLIENT_TOOLS + REREADING_TOOLS):", "if False:", PRICE),
    Removal("searches below none", "producer/gateway/clamp.py", "if type(most) is not int or most < 0:", "if False:", PRICE),
    Removal("a cookie passed on", "producer/gateway/upstream.py", "x-api-key authorization cookie", "x-api-key authorization", f"{GATEWAY}test_a_header_that_names_somebody_else"),
    Removal("a proxy's credentials passed on", "producer/gateway/upstream.py", " proxy-authorization", "", f"{GATEWAY}test_a_header_that_names_somebody_else"),
    # worktrees
    Removal("a branch with a configuration of its own", "producer/worktree.py", "if files := _touched(git, theirs, content, warded):", "if files := ():", "tests/workspaces/test_worktree.py::test_a_branch_that_changes_what_no_agent_may"),
    # the sandbox's plan
    Removal("a link to write through", "producer/sandbox/plan.py", "    _check_links(wishes, ground, root)\n    found", "    found", f"{PLAN}test_a_link_to_write_through_is_refused"),
    Removal("a link in the place of what is protected", "producer/sandbox/plan.py", "if holder is not None and (link := linked(holder, path)):", "if False:", f"{PLAN}test_a_link_in_the_place_of_something_protected"),
    Removal("a protected directory moved away", "producer/sandbox/plan.py", "found.setdefault(between, Access.WRITE)", "pass", f"{PLAN}test_every_directory_on_the_way"),
    Removal("a .git that names another repository", "producer/sandbox/plan.py", 'if back != link.resolve() or admin.parent != common / "worktrees":', "if False:", f"{PLAN}test_a_file_git_that_names_another_repository"),
    Removal("objects that are a link", "producer/sandbox/plan.py", "for place in wanted if linked(common, place) is None)", "for place in wanted)", f"{PLAN}test_a_repository_whose_objects_are_a_link"),
    Removal("a toolchain's token", "producer/sandbox/plan.py", 'TOKENS = (".cargo/credentials", ".cargo/credentials.toml")', "TOKENS = ()", f"{PLAN}test_toolchains_of_the_home"),
    Removal("settings made by an agent", "producer/sandbox/plan.py", "    _make(ground.cwd if ground.worktree else root, secrets=shared)\n", "", f"{PLAN}test_settings_and_keys_are_made"),
    Removal("settings in a worktree", "producer/sandbox/plan.py", "*_twins(wishes, ground), ", "", f"{PLAN}test_from_a_worktree"),
    Removal("hooks and configuration of git", "producer/sandbox/plan.py", "*_ours(), *_git_guards(ground.cwd, root)]", "*_ours()]", f"{PLAN}test_from_a_worktree"),
    Removal("the network where only Landlock works", "producer/sandbox/choice.py", 'if network != "full":', "if False:", f"{PLAN}test_no_network_is_refused"),
    Removal("a Landlock that lets truncate", "producer/sandbox/choice.py", "if abi >= confine.LEAST_ABI:", "if abi:", f"{PLAN}test_a_landlock_that_does_not_stop_truncation"),
    Removal("what is hidden seen through a role's own path", "producer/sandbox/plan.py", "    _protect(found, (*wishes.hide, *SHADOWS, *tokens), Access.HIDE)\n", "", f"{PLAN}test_what_a_role_is_given_opens_nothing_private"),
    # the dashboard
    Removal("a name rebound to 127.0.0.1", "producer/web/gates.py", "if len(given) != 1 or given[0].lower() not in self._hosts:", "if False:", f"{GATES}test_another_host_is_refused"),
    Removal("two Host headers", "producer/web/gates.py", "if len(given) != 1 or given[0]", "if given[0]", f"{GATES}test_no_host_and_two_hosts"),
    Removal("no session", "producer/web/gates.py", 'if scope["session"] is None:', "if False:", f"{GATES}test_without_a_session"),
    Removal("a write from another site", "producer/web/gates.py", 'if scope["type"] == "http" and not self._ours(', 'if False and not self._ours(', f"{GATES}test_a_write_from_elsewhere"),
    Removal("a write without the session's token", "producer/web/gates.py", "if len(tokens) != 1 or not matches(session, tokens[0]):", "if False:", f"{GATES}test_the_token_of_another_session"),
    Removal("a form that is no JSON", "producer/web/gates.py", 'if kind not in ("application/json", "application/json;charset=utf-8"):', "if False:", f"{GATES}test_a_write_says_json"),
    Removal("a body without an end", "producer/web/gates.py", "                if len(body) > BODY_BYTES:\n                    return None\n", "", f"{GATES}test_a_body_over_64_kib"),
    Removal("a page in a frame", "producer/web/gates.py", "    \"x-frame-options\": \"DENY\",\n", "", f"{GATES}test_every_answer_carries_the_shield"),
    # through the real CLI
    Removal("the ledger read from the sandbox", "producer/sandbox/plan.py", "    _protect(found, (*wishes.hide, *SHADOWS, *tokens), Access.HIDE)\n", "", f"{SHELL}test_bubblewrap_stops_it[read the ledger]"),
    Removal("the configuration edited from the sandbox", "producer/sandbox/plan.py", "    _protect(found, kept, Access.READ)\n", "", f"{SHELL}test_bubblewrap_stops_it[edit the configuration]"),
)  # fmt: skip
