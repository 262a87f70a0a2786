"""Who may speak to the dashboard: every gate on every route, and everything that comes from elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from web_rig import HOST, PORT, Web

from producer.web import api, gates, pages
from producer.web.serve import hosts

READS = [
    *(route.path.format(ident="parser") for route in api.ROUTES if route.method == "GET"),
    *(path.format(ident="parser") for path, _ in pages.ROUTES),
    "/static/app.css",
    "/static/app.js",
]
WRITES = [route.path.format(ident="parser", role="code") for route in api.ROUTES if route.method == "POST"]
ALL = [*(("GET", path) for path in [*READS, "/api/events", "/enter", "/nothing"]), *(("POST", path) for path in WRITES)]


@pytest.mark.parametrize(
    "host",
    ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", f"127.0.0.1:{PORT}.evil.example",
     f"localhost.evil.example:{PORT}", f"[::1]:{PORT}", f"0.0.0.0:{PORT}", "", f" {HOST}", f"{HOST}@evil.example"],
)  # fmt: skip
def test_another_host_is_refused_first_on_every_route(web: Web, host: str) -> None:
    for method, path in ALL:
        found = web.ask(method, path, headers={"host": host})
        assert found.status_code == 403 and found.json()["error"], f"{method} {path}, although the cookie is right"


def test_no_host_and_two_hosts_are_refused(web: Web) -> None:
    assert web.ask("GET", "/", headers={"host": None}).status_code == 403
    twice = [("host", HOST), ("host", HOST), ("cookie", web.cookie)]
    assert web.raw("GET", "/", twice).status_code == 403


@pytest.mark.parametrize("host", [HOST, f"localhost:{PORT}", f"LOCALHOST:{PORT}"])
def test_our_own_names_are_taken(web: Web, host: str) -> None:
    assert web.get("/", host=host).status_code == 200


def test_the_address_of_producer_yaml_is_ours_too() -> None:
    names, origins = hosts(PORT, "https://Desk.example.com/x")
    assert names == {HOST, f"localhost:{PORT}", "desk.example.com"}
    assert origins == {f"http://{HOST}", f"http://localhost:{PORT}", "https://desk.example.com"}


@pytest.mark.parametrize(
    "cookie", [None, "producer_5050=", "producer_5050=x", f"producer_{PORT + 1}=MINE", "a=b; =; ;;"]
)
def test_without_a_session_nothing_is_shown_and_nothing_done(web: Web, cookie: str | None) -> None:
    cookie = cookie.replace("MINE", web.session.token) if cookie else cookie
    for method, path in ALL:
        if path == "/enter":
            continue
        found = web.ask(method, path, headers={"cookie": cookie})
        assert found.status_code == 401 and "error" in found.json(), f"{method} {path}"
        page = web.ask(method, path, headers={"cookie": cookie, "accept": "text/html"})
        assert page.status_code == 401 and "parser" not in page.text and web.session.csrf not in page.text


def test_cookies_of_others_beside_ours_do_not_matter(web: Web) -> None:
    assert web.get("/", cookie=f'other={{"a": 1}}; x; {web.cookie}; "').status_code == 200


def test_a_link_works_once(web: Web) -> None:
    link = f"/enter?token={web.sessions.link()}"
    first = web.ask("GET", link, headers={"cookie": None, "sec-fetch-site": "cross-site"})
    assert first.status_code == 200 and 'http-equiv="refresh"' in first.text
    cookie = first.headers["set-cookie"]
    assert re.fullmatch(rf"producer_{PORT}=[\w-]{{43}}; Path=/; HttpOnly; SameSite=Strict", cookie)
    assert web.get("/", cookie=cookie.split(";")[0]).status_code == 200
    assert web.ask("GET", link, headers={"cookie": None}).status_code == 401, "it was used"


def test_a_link_is_of_256_random_bits_and_grows_old(web: Web) -> None:
    tokens = {web.sessions.link() for _ in range(100)}
    assert len(tokens) == 100 and {len(token) for token in tokens} == {43}
    token = web.sessions.link()
    web.clock.now += 601
    assert web.sessions.enter(token) is None
    assert web.sessions.enter("") is None and web.sessions.enter("\udcff") is None


@pytest.mark.parametrize("query", ["", "?token=", "?token=x", "?token=A&token=B", "?other=1", "?token=%ff%00"])
def test_what_is_no_link_leads_nowhere(web: Web, query: str) -> None:
    found = web.ask("GET", f"/enter{query}", headers={"cookie": None})
    assert found.status_code == 401 and "set-cookie" not in found.headers


@pytest.mark.parametrize(
    "headers",
    [{"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"sec-fetch-site": "none"},
     {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": f"http://127.0.0.1:{PORT + 1}"},
     {"origin": f"https://{HOST}"}, {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
     {"x-producer-csrf": None}, {"x-producer-csrf": ""}, {"x-producer-csrf": "x" * 43}],
)  # fmt: skip
def test_a_write_from_elsewhere_is_refused(web: Web, headers: dict[str, str | None]) -> None:
    before = web.project.audit()
    for path in WRITES:
        found = web.ask("POST", path, headers=headers, content="{}")
        assert found.status_code == 403 and "error" in found.json(), path
    assert web.project.audit() == before


def test_the_token_of_another_session_is_refused(web: Web) -> None:
    other = web.sessions.enter(web.sessions.link())
    assert other
    assert web.post("/api/tasks", {}, **{"x-producer-csrf": other.csrf}).status_code == 403


@pytest.mark.parametrize(
    ("mode", "dest", "status"),
    [("navigate", "document", 200), ("no-cors", "image", 403), ("cors", "empty", 403), ("navigate", "iframe", 403),
     ("no-cors", "script", 403)],
)  # fmt: skip
def test_another_site_may_open_a_page_and_nothing_else(web: Web, mode: str, dest: str, status: int) -> None:
    headers = {"sec-fetch-site": "same-site", "sec-fetch-mode": mode, "sec-fetch-dest": dest}
    assert web.ask("GET", "/", headers={**headers}).status_code == status


@pytest.mark.parametrize(
    "kind",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp",
     "application/json; charset=latin-1", "text/plain; application/json"],
)  # fmt: skip
def test_a_write_says_json(web: Web, kind: str | None) -> None:
    for path in WRITES:
        assert web.ask("POST", path, headers={"content-type": kind}, content="{}").status_code == 415, path


BODIES = {
    "not JSON": "{", "text": "hello", "empty key twice": '{"reason": "a", "reason": "b"}', "NaN": '{"reason": NaN}',
    "infinite": '{"reason": 1e999}', "minus infinity": '{"reason": -Infinity}', "deep": "[" * 60 + "]" * 60,
    "very deep": "[" * 30_000 + "]" * 30_000, "deep object": '{"a":' * 50 + "1" + "}" * 50, "a list": "[]",
    "a number": "1", "null": "null", "surrogate": '{"reason": "\\ud800"}', "not UTF-8": b"\xff\xfe{}",
    "unknown key": '{"surprise": 1}', "a BOM": b"\xef\xbb\xbf{}",
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_bad_bodies_are_answered_with_400(web: Web, body: str | bytes) -> None:
    for path in WRITES:
        found = web.post(path, body)
        assert found.status_code == 400, f"{path}: {found.text}"
        assert found.json()["error"] and "Traceback" not in found.text


def test_a_body_over_64_kib_is_refused_also_without_a_length(web: Web) -> None:
    body = json.dumps({"title": "x" * gates.BODY_BYTES})
    chunked = [("host", HOST), ("cookie", web.cookie), ("content-type", "application/json"),
               ("x-producer-csrf", web.session.csrf), ("transfer-encoding", "chunked")]  # fmt: skip
    for path in WRITES:
        assert web.post(path, body).status_code == 413
        assert web.ask("POST", path, headers={"content-length": "99999999999"}, content="{}").status_code == 413
        assert web.raw("POST", path, chunked, body).status_code == 413


@pytest.mark.parametrize("headers", [{}, {"host": "evil.example"}, {"cookie": None}, {"accept": "text/html"}])
def test_every_answer_carries_the_shield(web: Web, headers: dict[str, str | None]) -> None:
    for method, path in ALL:
        if path == "/api/events":
            continue  # it does not end; test_web_live.py looks at it
        found = web.ask(method, path, headers={**headers}, content="{}" if method == "POST" else b"")
        policy = found.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert found.headers["x-content-type-options"] == "nosniff"
        assert found.headers["referrer-policy"] == "no-referrer"
        assert found.headers["x-frame-options"] == "DENY" and found.headers["cache-control"]
        assert not [name for name in found.headers if name.startswith("access-control")]
        assert found.status_code < 500


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_do_nothing(web: Web, method: str) -> None:
    for path in ("/", "/api/state", "/api/tasks", "/api/kill_switch", "/static/app.css"):
        assert web.ask(method, path, content="{}").status_code in (404, 405)


def test_a_preflight_gets_no_leave(web: Web) -> None:
    found = web.ask(
        "OPTIONS",
        "/api/kill_switch",
        headers={"origin": "https://evil.example", "access-control-request-method": "POST"},
    )
    assert found.status_code == 403 and "access-control-allow-origin" not in found.headers


PATHS_OUT = (
    "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/", "/static",
     "/static/templates/base.html", "/tasks/..%2f..%2fetc", "/api/tasks/..%2f..%2fevil", "/reports?day=../../etc",
)  # fmt: skip


def test_no_path_leads_out(web: Web) -> None:
    for path in PATHS_OUT:
        found = web.get(path)
        assert found.status_code in (400, 404, 405), f"{path}: {found.text[:200]}"
        assert "root:" not in found.text and "import" not in found.text


def test_no_page_has_inline_script_or_style(web: Web) -> None:
    for path in READS:
        text = web.get(path).text
        if "<html" in text:
            assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|javascript:", text), path


def test_our_own_scripts_never_make_text_into_html() -> None:
    sinks = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|DOMParser|srcdoc")
    scripts = list(Path(gates.__file__).parent.joinpath("static").glob("*.js"))
    assert len(scripts) > 5
    for script in scripts:
        assert not sinks.search(script.read_text()), script.name
