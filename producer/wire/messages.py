"""Every message that crosses a socket.

1. A message is three frames: `PRD1`, the type (the class's name) and a JSON body (the fields below).
2. Unknown fields are ignored and unknown types are logged, so that two versions can talk; another major is refused.
3. Money is an integer number of micro-US-dollars; times are seconds since the epoch, UTC; durations are seconds.
   A field that has its default is left out.
4. A message's sender is known from its CURVE key, never from a field. Ids in a message only correlate.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Ulid = Annotated[str, Meta(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}\Z")]
TASK_ID = r"^[A-Za-z0-9_-]{1,64}"
TaskId = Annotated[str, Meta(pattern=TASK_ID + r"\Z")]  # may be proposed; 0.3's are no ULIDs
MOST = 2**53  # beyond, a number is not exact in JSON, and soon none that SQLite takes
Micros = Annotated[int, Meta(ge=0, le=MOST)]
Count = Annotated[int, Meta(ge=0, le=MOST)]
Seconds = Annotated[float, Meta(ge=0, le=1e11)]  # as a date: no later than the year 5138
Pid = Annotated[int, Meta(ge=1, lt=2**31)]
Session = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")]  # names a file and is a word for claude
JsonObject = dict[str, Any]


class Message(Struct, frozen=True, omit_defaults=True):
    """A typed JSON object; checked strictly when it is encoded and when it is decoded, not when it is made."""


# ---- tasks socket: supervisor to worker --------------------------------------------------------------------------


class Welcome(Message, frozen=True):
    """Answer to Hello: the worker is adopted and may announce itself ready."""

    supervisor: Ulid
    version: str


class TaskMsg(Message, frozen=True):
    """One attempt of one task: all that a worker needs to run it. Committed before it is sent."""

    attempt: Ulid
    task: TaskId
    role: str
    title: str
    description: str
    prompt: str
    model: str
    cwd: str
    config_dir: str
    home: str
    session_id: str
    payload: JsonObject = {}
    number: int = 1
    system_prompt: str | None = None
    allowed_tools: list[str] = []
    max_turns: int = 16
    max_budget: Micros | None = None
    timeout_seconds: Seconds = 3600.0
    idle_timeout_seconds: Seconds = 600.0
    permission_mode: str = "dontAsk"
    mcp_servers: JsonObject = {}
    env: dict[str, str] = {}
    workspace: JsonObject | None = None
    sandbox: JsonObject | None = None
    known_as: str | None = None  # where the directory of config_dir and home is to be found from now on, if elsewhere
    resume: bool = False
    interrupted: str | None = None
    auth: Literal["gateway", "inherit", "none"] = "none"
    base_url: str | None = None
    api_token: str | None = None


class Cancel(Message, frozen=True):
    """Stop this attempt: cancel, TERM, KILL, sweep, count survivors. ``reason`` becomes the result's error."""

    attempt: Ulid
    reason: str
    grace_seconds: Seconds = 5.0


class Ack(Message, frozen=True):
    """The results of these attempts are committed: their outbox entries may go."""

    attempts: list[Ulid]


class Drain(Message, frozen=True):
    """Take no more tasks; leave when the ones in hand are done."""


class Ping(Message, frozen=True):
    """A question that any answer answers."""


class Refuse(Message, frozen=True):
    """This peer may not take part; it leaves."""

    reason: str


class StandBy(Message, frozen=True):
    """Have a process ready for this attempt, whose task is yet to come; None: for none. The last one counts."""

    task: TaskMsg | None = None


class Reply(Message, frozen=True):
    """Answer to a Call, a Reserve or a control Request, correlated by ``call``."""

    call: str
    ok: bool
    result: Any = None
    error: str | None = None
    exit_code: int = 0


# ---- tasks socket: worker to supervisor --------------------------------------------------------------------------


class Hello(Message, frozen=True):
    """First words of a process start. ``worker`` is the ULID of this start and the socket's identity."""

    worker: Ulid
    role: str
    slot: Count
    pid: Pid
    pid_start: Seconds
    version: str
    running: list[Ulid] = []
    outbox: list[Ulid] = []


class Ready(Message, frozen=True):
    """The worker can take ``free`` more tasks now (an absolute credit, not an increment)."""

    free: Count


class Standing(Message, frozen=True):
    """Whether the process that StandBy asked for is connected."""

    attempt: Ulid
    connected: bool


class Started(Message, frozen=True):
    """The attempt has begun; ``resumed`` says whether an earlier session was taken up, ``note`` why not."""

    attempt: Ulid
    session_id: Session
    resumed: bool = False
    note: str | None = None


class Call(Message, frozen=True):
    """A ledger tool of the agent's: answered by Reply after the commit."""

    call: str
    attempt: Ulid
    tool: Literal["insert_task", "record_decision", "record_asset", "get_task", "list_tasks", "escalate"]
    arguments: JsonObject = {}


class Pong(Message, frozen=True):
    """Answer to Ping: what a worker has in hand, and what it has ended and not heard an Ack for; None: it does not say.

    A task that was sent before the Ping and is in neither has been lost on its way.
    """

    running: list[Ulid] | None = None
    outbox: list[Ulid] = []


class Bye(Message, frozen=True):
    """The worker leaves in good order."""

    reason: str


# ---- results socket: worker to supervisor ------------------------------------------------------------------------

Outcome = Literal["succeeded", "failed", "permanent", "throttled", "budget", "cancelled", "lost"]


class Usage(Message, frozen=True):
    """Token counts of one model response, or their sum."""

    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_5m_tokens: Count = 0
    cache_write_1h_tokens: Count = 0
    web_searches: Count = 0


class Progress(Message, frozen=True):
    """What an attempt is doing. Advisory: it may be lost.

    ``data`` by kind: text {text}; tool_call {id, name, input}; tool_result {id, name, ok, seconds, summary};
    usage {model, usage fields, cost_micros|None}; retry {status, error, delay_seconds}; note {text}.
    """

    attempt: Ulid
    kind: Literal["text", "tool_call", "tool_result", "usage", "retry", "note"]
    data: JsonObject
    at: Seconds = 0.0


class Result(Message, frozen=True):
    """How an attempt ended. Written to the worker's outbox before it is sent, and sent until acknowledged.

    outcome: succeeded; failed (worth a retry); permanent (no retry will help); throttled (until ``until``);
    budget (a cap stopped it); cancelled (we stopped it); lost is made by the supervisor alone.
    cost is what the invoker itself reports, None where it reports none; with a gateway the gateway's meter is booked.
    """

    attempt: Ulid
    task: TaskId
    outcome: Outcome
    text: str = ""
    error: str | None = None
    until: Seconds | None = None
    cost: Micros | None = None
    usage: dict[str, Usage] = {}
    session_id: Session | None = None
    output_refs: list[str] = []
    turns: Count = 0
    tool_calls: Count = 0
    seconds: Seconds = 0.0
    survivors: Count = 0


# ---- tasks socket: gateway ---------------------------------------------------------------------------------------


class GatewayHello(Message, frozen=True):
    """The gateway's first words after every (re)connection. ``open``: the attempts it has grants for."""

    gateway: Ulid
    pid: Pid
    pid_start: Seconds
    url: str
    version: str
    open: list[Ulid] = []


class Open(Message, frozen=True):
    """Supervisor to gateway: accept this attempt's token. Sent before the task is; idempotent."""

    attempt: Ulid
    role: str
    task: TaskId
    title: str = ""


class Reserve(Message, frozen=True):
    """Gateway to supervisor: may this request cost up to ``need``? At least ``floor`` makes it useful.

    Answered by Reply(call=request, result={"granted": micros}) with floor <= granted <= need, or ok=False with the
    reason once no wait can help. A request the supervisor already answered is answered the same again.
    """

    request: Ulid
    attempt: Ulid
    need: Micros
    floor: Micros


class Metered(Message, frozen=True):
    """Gateway to supervisor: one model request ended. Also a line of the gateway's journal; booked once, by request.

    exact False: the response was cut, and the amount is the most it can have cost.
    """

    request: Ulid
    attempt: Ulid
    model: str
    cost: Micros
    usage: Usage = Usage()
    exact: bool = True
    status: Count = 200
    at: Seconds = 0.0


class Booked(Message, frozen=True):
    """Supervisor to gateway: this request's record is committed to the ledger."""

    request: Ulid


class Close(Message, frozen=True):
    """Supervisor to gateway: the attempt is over (or must stop): cut its streams, refuse its token."""

    attempt: Ulid


class Closed(Message, frozen=True):
    """Gateway to supervisor: no request of the attempt is open; all its Metered were sent before this."""

    attempt: Ulid


# ---- control socket ----------------------------------------------------------------------------------------------


class Request(Message, frozen=True):
    """producerctl, LedgerClient or the dashboard asks for ``op``; answered by Reply, after the commit."""

    call: str
    op: str
    arguments: JsonObject = {}


# ---- events socket -----------------------------------------------------------------------------------------------


class Event(Message, frozen=True):
    """What happened: an audit row's action and detail, or an attempt's progress."""

    at: Seconds
    kind: str
    role: str | None = None
    task: str | None = None
    attempt: str | None = None
    data: JsonObject = {}


TYPES: dict[str, type[Message]] = {
    cls.__name__: cls
    for cls in (
        Welcome, TaskMsg, StandBy, Cancel, Ack, Drain, Ping, Refuse, Reply, Hello, Ready, Standing, Started, Call, Pong,
        Bye, Progress, Result, GatewayHello, Open, Reserve, Metered, Booked, Close, Closed, Request, Event,
    )
}  # fmt: skip
