"""The Audit page: how far the log is signed, and what is wrong with it."""

from __future__ import annotations

import json
import re
from contextlib import closing

from driving import Project
from web_rig import Web

from producer.ledger import Store
from producer.ledger.trust import ANCHOR


def lead(web: Web) -> str:
    """The page's first paragraph, without its markup."""
    page = web.get("/audit").text
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition('id="chain"')[2].partition("</p>")[0]).split())


def test_the_page_says_how_far_the_log_is_signed(filled: Project, web: Web) -> None:
    assert "Nothing of it is signed yet." in lead(web)
    with filled.client() as client:
        signed = client.perform("sign_audit")
    filled.file_task("later")
    assert f"Signed up to row {signed} of" in lead(web)


def test_an_alarm_and_an_anchor_that_fails_stand_on_the_page(filled: Project, web: Web) -> None:
    fared = {"at": "2026-05-06T00:00:00Z", "size": 7, "ok": False, "error": "exit 1: <b>no space</b>"}
    with filled.client() as client:
        client.append_audit(
            agent_owner="producer", action="audit_broken", detail={"problem": "row 3 <i>is</i> missing"}
        )
    head = filled.places.state / "audit.head"
    with closing(Store(filled.places.ledger, head_file=head)) as store, store.transaction():
        store.set_meta(ANCHOR, json.dumps(fared))  # as the courier leaves it
    found = web.get("/audit").text
    assert "row 3 &lt;i&gt;is&lt;/i&gt; missing" in found and "&lt;b&gt;no space&lt;/b&gt;" in found
    assert "The anchor command fails" in lead(web)
    assert "The audit log does not hold" in web.get("/").text
    with filled.client() as client:
        client.perform("acknowledge_audit", reason="seen")
    assert "row 3" not in lead(web) and "does not hold" not in web.get("/").text
