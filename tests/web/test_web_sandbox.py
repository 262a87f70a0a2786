"""The Now page says which roles nothing holds."""

from __future__ import annotations

import json

from driving import Project
from web_rig import Web

from producer.sandbox import choice


def test_a_role_without_a_sandbox_is_shown_in_the_alarming_colour(project: Project) -> None:
    project.configure({"code": {"sandbox": "none"}, "qa": {}})
    project.file_task("a task")
    web = Web(project)
    page = web.get("/").text
    held = choice.in_force("auto")
    assert page.count("s-unheld") == (1 if held != "refused" else 2)
    code = page[page.index('data-key="role-code"') : page.index('data-key="role-qa"')]
    assert "no sandbox" in code and "s-unheld" in code
    roles = json.loads(web.get("/api/state").text)["roles"]
    assert roles["code"]["sandbox"] == {"mode": "none", "network": "full"}
    assert roles["qa"]["sandbox"]["mode"] == held
