"""A run that was recorded is played again: the same files, the same bill, and no model behind it."""

from __future__ import annotations

import json

import pytest
from driving import Project
from rehearsing import LONG, equal_bills, requests, shell, with_shell, write_script

from producer.cli.run import read_script
from producer.errors import ConfigError

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
TITLE = "Write [one] of {title}*"


def test_a_recorded_run_is_played_again(project: Project, supervise) -> None:
    project.configure({"code": with_shell()}, gateway={"record": True})
    script = write_script(
        project,
        {
            "code": {
                "Write *": [
                    shell("echo '{title} {\"a\": 1}' > room/made.txt; echo once >> room/log.txt"),
                    {"text": "Made {title}."},
                ]
            }
        },
    )
    file = project.room / "made.txt"
    first = project.file_task(TITLE)
    assert supervise("--once", "--rehearse", str(script), invoker=None).exits(LONG) == 0
    made, said = file.read_text(), project.task(first)["result"]
    before, cost = requests(project), equal_bills(project)
    recordings = project.places.state / "recordings"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (recordings, *recordings.iterdir()))

    project.configure({"code": with_shell()})
    file.unlink()
    second = project.file_task(TITLE)
    assert supervise("--once", "--rehearse", str(recordings), invoker=None).exits(LONG) == 0
    assert file.read_text() == made and project.task(second)["result"] == said
    assert (project.room / "log.txt").read_text() == "once\nonce\n"
    again = requests(project)[len(before) :]
    assert [line["usage"]["output_tokens"] for line in again] == [line["usage"]["output_tokens"] for line in before]
    assert project.books_balance() == 2 * cost, "the recorded tokens are billed"


def test_what_is_no_recording_is_refused_and_what_is_torn_is_passed_over(project: Project) -> None:
    folder = project.root / "recordings"
    folder.mkdir()
    with pytest.raises(ConfigError, match="holds no recording of a task") as refused:
        read_script(str(folder))
    assert str(folder) in str(refused.value)
    prompt = "Role: code\nTask: T\nTitle: Say {title}"
    request = json.dumps({"messages": [{"role": "user", "content": prompt}]})
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello {title}"}]
    whole = {
        "metered": {"status": 200, "usage": {"output_tokens": 7}}, "request": request,
        "response": json.dumps({"content": content}),
    }  # fmt: skip
    failed = {"metered": {"status": 529}, "request": request, "response": '{"type": "error"}'}
    cut = {
        **whole,
        "response": 'data: {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}\n',
    }
    odd = ["", "[1]", "garbage", '{"metered": 7, "request": 8, "response": 9}', json.dumps(whole)[:-9]]
    lines = [json.dumps(failed), json.dumps(cut), *odd, json.dumps(whole)]
    (folder / "01M8.jsonl").write_text("\n".join(lines))
    from producer.gateway import script

    [turn] = script.load(folder).roles["code"][0].turns
    assert (turn.text, turn.tools, turn.output_tokens) == ("Hello {title}", (), 7)
    assert script.load(folder).find("code", "Say {title}") and not script.load(folder).find("code", "Say [x]")
