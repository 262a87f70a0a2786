"""When the morning report is written: at a time of day, every few hours, and when somebody asks.

1. Due times are remembered in the ledger, so that a restart neither repeats nor forgets a report; what was missed while
   no supervisor ran is made up for once. The first report of a project is written at once.
2. The loop only orders it, through the outbox. The courier builds and writes it, and the loop audits it.
3. Who asked is answered when the file is there, or with the reason why it is not.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from producer import killswitch, pricing
from producer.config import ProducerConfig
from producer.core.clock import next_time
from producer.errors import LedgerError, PricingError, ProducerError
from producer.ledger import report
from producer.ledger.records import Pending
from producer.ledger.views import Reader
from producer.places import Places
from producer.supervisor.kernel import Kernel
from producer.supervisor.told import Told
from producer.wire.messages import JsonObject, Reply

HOUR = 3600.0
AT_TIME, EVERY = "report.time", "report.every_hours"


class Reports:
    """Runs inside the batch's transaction."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._known: dict[str, tuple[float, str]] = {}

    def tend(self) -> None:
        """Order the report where it is due."""
        now, settings = self._kernel.store.db.now, self._kernel.config.report
        due = []
        if settings.time:
            zone = ZoneInfo(settings.timezone) if settings.timezone else None
            coming = next_time(now, settings.time, zone)
            due.append(self._due(AT_TIME, f"{settings.time} {settings.timezone}", now, coming, coming))
        if settings.every_hours:
            due.append(self._due(EVERY, f"{settings.every_hours} h", now, now, now + settings.every_hours * HOUR))
        if any(due):
            self._kernel.store.outbox.put("report", {"date": None, "actor": "producer"})

    def _due(self, name: str, rule: str, now: float, first: float, after: float) -> bool:
        """Whether it is time by one rule. ``first``: when it is due under a new rule; ``after``: and then next.

        A due time later than ``after`` cannot be: the clock was set back.
        """
        due, known = self._recall(name)
        at = first if known != rule else min(due, after)
        is_due = at <= now
        at = after if is_due else at
        if (at, rule) != (due, known):
            self._known[name] = (at, rule)
            self._kernel.store.set_meta(name, json.dumps([at, rule]))
        return is_due

    def _recall(self, name: str) -> tuple[float, str]:
        if name not in self._known:
            at, rule = json.loads(self._kernel.store.meta(name) or '[0, ""]')
            self._known[name] = (float(at), str(rule))
        return self._known[name]

    def ask(self, address: bytes, call: str, arguments: JsonObject, actor: str) -> None:
        """Somebody wants a report, of ``date`` or of today; the answer {path, date} comes when it is written."""
        date = report.parse_date(arguments.get("date"))
        asked = {"address": address.hex(), "call": call}
        self._kernel.store.outbox.put("report", {"date": date, "actor": actor, "asked": asked})


def write_report(config: ProducerConfig, places: Places, entry: Pending, reader: Reader) -> Told:
    """Build and write the report that an entry of the outbox orders; the courier calls it."""
    asked = entry.body.get("asked")
    try:
        found = report.build(
            reader, report.Caps.of(config), entry.body["date"], switch=killswitch.read(config.kill_switch),
            pricing_note=stale_note(config, places), state=places.state,
        )  # fmt: skip
        path = report.write(found, config.reports_dir)
    except (OSError, ProducerError) as error:
        if not asked:
            raise
        failure = error if isinstance(error, ProducerError) else LedgerError(f"the report was not written: {error}")
        return Told(entry.id, then=partial(_answer, asked, failure))
    result = {"path": str(path), "date": found.date}
    return Told(entry.id, then=partial(_written, str(entry.body["actor"]), path.name, result, asked))


def _written(actor: str, name: str, result: dict[str, str], asked: dict[str, str] | None, kernel: Kernel) -> None:
    kernel.audit("morning_report", actor=actor, date=result["date"], file=name)
    if asked:
        _answer(asked, result, kernel)


def _answer(asked: dict[str, str], answer: dict[str, str] | ProducerError, kernel: Kernel) -> None:
    if isinstance(answer, ProducerError):
        reply = Reply(call=asked["call"], ok=False, error=str(answer), result=type(answer).__name__)
    else:
        reply = Reply(call=asked["call"], ok=True, result=dict[str, Any](answer))
    kernel.send("control", bytes.fromhex(asked["address"]), reply)


def stale_note(config: ProducerConfig, places: Places) -> str | None:
    """The report's banner about a price table that should be looked at again; None where it is fresh."""
    try:
        table = pricing.merged(places.state / "pricing.json", config.pricing)
        return pricing.stale_note(table, datetime.fromtimestamp(time.time(), UTC).date())
    except PricingError as error:
        return f"The price table cannot be read: {error}"
