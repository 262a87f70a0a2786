"""When a scheduled task is due: cron expressions in a time zone, and what is remembered of each.

1. What is remembered is a mark: up to which moment an entry's runs are dealt with. A new entry's mark is now, so that
   nothing is filed for the time before it was written.
2. An entry is due when its next run after the mark has come. The mark then moves to now: whatever was missed (no
   supervisor, an armed kill switch, a clock that was moved on) is one run.
3. A clock that is set back repeats nothing: the mark stays where it was. One that is more than a day ahead comes from
   a clock that was wrong, and becomes now.
4. Summer time is Debian cron's (cronsim): a time that the clocks jump over comes when they have jumped, one that they
   show twice comes once; entries whose minute or hour begins with `*` go by real time.
5. While the task of the run before still waits to be started, another would say the same: it is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, tzinfo

from cronsim import CronSim, CronSimError

FIELDS = 5
AHEAD = 86_400.0
_ANY_DAY = datetime(2024, 1, 1)  # of a leap year: what has no run within 50 years from here has none


@dataclass(frozen=True)
class Mark:
    """Up to when (seconds since the epoch) an entry's runs are dealt with, and the task that was filed last."""

    since: float
    task: str | None = None


@dataclass(frozen=True)
class Due:
    """A task is to be filed. ``run``: the first moment that it stands for, in seconds since the epoch."""

    run: float


def problem_with(expression: str) -> str | None:
    """Why a cron expression is not acceptable, None where it is."""
    if len(expression.split()) != FIELDS:
        return f"{len(expression.split())} fields"
    try:
        next(CronSim(expression, _ANY_DAY))
    except CronSimError as error:
        return str(error).lower()
    except StopIteration:
        return "it never comes"
    return None


def next_run(expression: str, zone: tzinfo, after: float) -> float | None:
    """The first run after ``after``, both in seconds since the epoch; None where there is none in 50 years."""
    moments = CronSim(expression, datetime.fromtimestamp(after, zone))
    # In the hour that comes twice cronsim starts from what the clock shows, and may go back to the first of the two.
    return next((found for moment in moments if (found := moment.timestamp()) > after), None)


def look(expression: str, zone: tzinfo, mark: Mark | None, now: float, *, waiting: bool) -> tuple[Mark, Due | None]:
    """What is to be remembered now, and whether a task is due. ``waiting``: the one filed last was not started yet."""
    if mark is None:
        return Mark(now), None
    if mark.since > now + AHEAD:
        return Mark(now, mark.task), None
    run = next_run(expression, zone, mark.since)
    if run is None or run > now:
        return mark, None
    return Mark(now, mark.task), None if waiting else Due(run)
