"""`producerctl audit`: is the log whole, and taking it elsewhere."""

from __future__ import annotations

from dataclasses import asdict
from importlib import resources
from pathlib import Path

import click

from producer.cli import screen
from producer.cli.app import App, json_option, pass_app
from producer.errors import InvalidTask, ProducerError

HEAD_FILE = "audit.head"


@click.group(no_args_is_help=False)
def audit() -> None:
    """Check the audit log, and take it elsewhere.

    Example: producerctl audit verify
    """


@audit.command()
@click.option("--head", "head_file", type=click.Path(dir_okay=False, path_type=Path), help="A head kept elsewhere.")
@json_option
@pass_app
def verify(app: App, head_file: Path | None, as_json: bool) -> int:
    """Recompute the whole chain and compare it with the head kept outside the ledger; exit 1 where it is broken.

    Example: producerctl audit verify --head /mnt/usb/head.txt
    """
    from producer.ledger import export

    heads = [export.read_head(head_file)] if head_file else []
    try:
        heads.append(export.read_head(app.places.state / HEAD_FILE))  # before the rows: they only grow
    except InvalidTask as error:
        screen.warn(f"the copy of the head outside the ledger is missing: {error}")
    with app.reader() as reader:
        verdict = export.check(reader, heads)
    if as_json:
        screen.show_json(asdict(verdict))
    elif verdict.ok:
        old = f" and {verdict.rows_0_3} of 0.3" if verdict.rows_0_3 else ""
        screen.say(f"ok: {verdict.rows} rows{old}, head {verdict.head}")
        if verdict.note:
            screen.warn(verdict.note)
    else:
        screen.say(f"NOT OK: {verdict.problem} (whole up to row {verdict.rows})", "bold red")
    return 0 if verdict.ok else 1


@audit.command()
@json_option
@pass_app
def head(app: App, as_json: bool) -> None:
    """Print the number and the hash of the newest row, to be kept where nobody here can change it.

    Example: producerctl audit head > /mnt/usb/head.txt
    """
    from producer.ledger import export

    with app.reader() as reader:
        newest = export.head(reader)
    screen.show_json({"seq": newest.seq, "head": newest.chain.hex()}) if as_json else screen.say(newest.text())


@audit.command("export")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="A new directory; default stdout.")
@json_option
@pass_app
def export_command(app: App, output: Path | None, as_json: bool) -> None:
    """Write every row as a line of JSON; into a directory, with a program that checks them alone.

    Example: producerctl audit export --output audit-2026-05
    """
    from producer.ledger import export

    with app.reader() as reader:
        if output is None:
            for line in export.lines(reader):
                screen.say(line)
            return
        if output.exists() and any(output.iterdir()):
            raise ProducerError(f"{output} is not empty: name a new directory")
        output.mkdir(parents=True, exist_ok=True)
        rows = list(export.lines(reader))
    (output / "audit.jsonl").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    checker = resources.files("producer").joinpath("templates", "verify_audit.py").read_text(encoding="utf-8")
    (output / "verify_audit.py").write_text(checker, encoding="utf-8")
    if as_json:
        screen.show_json({"rows": len(rows), "directory": str(output)})
    else:
        screen.say(f"{len(rows)} rows in {output}; check them with: python verify_audit.py audit.jsonl")
