"""`producerctl doctor`: what is in the way, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from producer.cli import screen
from producer.cli.app import App, json_option, pass_app
from producer.errors import ConfigError

if TYPE_CHECKING:
    from producer.cli.checks import Finding


@click.command()
@json_option
@pass_app
def doctor(app: App, as_json: bool) -> int:
    """Check everything, and say how to mend what is wrong.

    Machine, claude CLI, configuration, auth, prices, ledger, private directories, switch; exit 1 on a failure.

    Example: producerctl doctor
    """
    from producer.cli import checks

    findings = list(checks.machine())
    try:
        findings += checks.configuration(app)
    except ConfigError as error:
        findings.append(checks.Finding("config", "fail", str(error), "producerctl init, or correct the line"))
    else:
        findings += checks.project(app)
    bad = any(finding.status == "fail" for finding in findings)
    if as_json:
        screen.show_json({"ok": not bad, "checks": [_shape(finding) for finding in findings]})
        return int(bad)
    for finding in findings:
        mend = f" -> {finding.mend}" if finding.mend and finding.status != "ok" else ""
        style = screen.STYLES.get("fail" if finding.red else finding.status, "")
        screen.hang(f"{finding.status:<4}  {finding.name}: {finding.detail}{mend}", 6, style)
    return int(bad)


def _shape(finding: Finding) -> dict[str, str]:
    shown = asdict(finding)
    del shown["red"]
    return shown
