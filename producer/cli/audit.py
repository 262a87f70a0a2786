"""`producerctl audit`: is the log whole, and taking it elsewhere."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from producer.cli import screen
from producer.cli.app import App, json_option, pass_app
from producer.errors import InvalidTask, ProducerError, UsageError

if TYPE_CHECKING:
    from producer.core.checkpoint import Key
    from producer.ledger.verify import Outside, Verdict

KEPT = ("audit.head", "audit.checkpoint")
NOTHING = "nothing is signed yet: start a supervisor, or look at what stands in its way"


@click.group(no_args_is_help=False)
def audit() -> None:
    """Check the audit log, and take it elsewhere.

    Example: producerctl audit verify
    """


@audit.command()
@click.option(
    "--head", "head_file", type=click.Path(dir_okay=False, path_type=Path), help="Heads kept elsewhere, in a file."
)
@click.option("--key", "key_text", help="Public keys kept elsewhere; what other keys signed does not count then.")
@json_option
@pass_app
def verify(app: App, head_file: Path | None, key_text: str | None, as_json: bool) -> int:
    """Recompute the whole log: chain, roots, signatures and the heads kept elsewhere; exit 1 where it is broken.

    A head is what `audit head` printed, lines of a journal or of a push, or `SEQ HEX`; the file may hold many.

    Example: producerctl audit verify --head /mnt/usb/head.txt
    """
    from producer.ledger import export
    from producer.ledger.signing import KeyRing

    given = export.read_heads(head_file) if head_file else []
    heads = [*given, *_kept(app)]  # before the rows: they only grow
    ring = KeyRing(map(_key, key_text.split())) if key_text else KeyRing.read(app.places.state)
    with app.reader() as reader:
        verdict = export.check(reader, heads, ring)
    if as_json:
        screen.show_json(asdict(verdict))
    elif verdict.ok:
        _say(verdict, given)
    else:
        screen.say(f"NOT OK: {verdict.problem} (whole up to row {verdict.rows})", "bold red")
    return 0 if verdict.ok else 1


def _kept(app: App) -> list[Outside]:
    """The heads that this user keeps outside the ledger."""
    from producer.ledger import export

    found: list[Outside] = []
    for name in KEPT:
        try:
            found += export.read_heads(app.places.state / name)
        except InvalidTask as error:
            if name == KEPT[0] or (app.places.state / name).exists():
                screen.warn(f"the copy of the head outside the ledger is missing: {error}")
    return found


def _key(text: str) -> Key:
    from producer.core.checkpoint import Key

    try:
        return Key.parse(text)
    except ValueError as error:
        raise UsageError(f"--key: {error}: `producerctl audit key` prints it") from None


def _say(verdict: Verdict, given: list[Outside]) -> None:
    from producer.ledger.audit import Head

    old = f" and {verdict.rows_0_3} of 0.3" if verdict.rows_0_3 else ""
    screen.say(f"ok: {verdict.rows} rows{old}, head {verdict.head}")
    screen.say(f"signed up to row {verdict.signed}, by {verdict.checkpoints} checkpoints")
    if given:
        last = max(head.seq if isinstance(head, Head) else head.size for head in given)
        screen.say(f"proven up to row {last} by the head from elsewhere")
    else:
        screen.say("held against nothing but this user's own files: a head kept elsewhere proves more (--head)")
    if verdict.note:
        screen.warn(verdict.note)


@audit.command()
@json_option
@pass_app
def head(app: App, as_json: bool) -> None:
    """Sign the log as it is and print the checkpoint, to be kept where nobody here can change it.

    Where it cannot be signed now, the newest checkpoint that there is.

    Example: producerctl audit head > /mnt/usb/head.txt
    """
    from producer.ledger import checkpoints, export

    with app.client(create=False) as client:
        try:
            client.perform("sign_audit")
        except ProducerError as error:
            screen.warn(f"this is not the newest row: {error}")
    with app.reader() as reader:
        newest, rows = checkpoints.newest(reader.db), export.head(reader).seq
        if newest is None:
            raise ProducerError(NOTHING)
        chain: bytes = reader.db.value("SELECT chain FROM audit WHERE seq = ?", newest.size) or b""
    if not as_json:
        screen.say(newest.note.rstrip("\n"))
        return
    from producer.core.checkpoint import Signed

    signed = Signed.parse(newest.note)
    found: dict[str, Any] = {"seq": newest.size, "head": chain.hex(), "root": signed.checkpoint.root.hex()}
    screen.show_json({**found, "origin": signed.checkpoint.origin, "rows": rows, "note": newest.note})


@audit.command()
@click.option("--new", is_flag=True, help="Print a new private key instead, for systemd's LoadCredential.")
@pass_app
def key(app: App, new: bool) -> None:
    """Print the public keys of the log's checkpoints, to be kept elsewhere like a head.

    Example: producerctl audit key > /mnt/usb/key.txt
    """
    from producer.ledger import signing

    if new:
        screen.say(signing.fresh())
        return
    known = signing.KeyRing.read(app.places.state).keys
    if not known:
        raise ProducerError(NOTHING)
    for one in known:
        screen.say(one.text())


@audit.command()
@click.argument("reason")
@pass_app
def acknowledge(app: App, reason: str) -> None:
    """Say that you have looked into an alarm about the log: `status` and `doctor` are quiet about it then.

    The alarm stays in the log, and so does the reason. `audit verify` goes on telling what it finds.

    Example: producerctl audit acknowledge "I put last night's backup back"
    """
    with app.client(create=False) as client:
        client.perform("acknowledge_audit", reason=reason)
    screen.say("noted")


@audit.command("export")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="A new directory; default stdout.")
@json_option
@pass_app
def export_command(app: App, output: Path | None, as_json: bool) -> None:
    """Write every row as a line of JSON; into a directory with checkpoints, keys and a program that checks them alone.

    Example: producerctl audit export --output audit-2026-05
    """
    from producer.ledger import export
    from producer.ledger.signing import KeyRing

    with app.reader() as reader:
        if output is None:
            for line in export.lines(reader):
                screen.say(line)
            return
        if output.exists() and any(output.iterdir()):
            raise ProducerError(f"{output} is not empty: name a new directory")
        output.mkdir(parents=True, exist_ok=True)
        rows, signed = export.write(reader, KeyRing.read(app.places.state), output)
    if as_json:
        screen.show_json({"rows": rows, "checkpoints": signed, "directory": str(output)})
    else:
        screen.say(f"{rows} rows, {signed} checkpoints in {output}; check them with: python {export.CHECKER} {output}")
