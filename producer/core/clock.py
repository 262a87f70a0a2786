"""Times of day in a place: when one comes next, and how long the quiet hours still last.

1. ``zone`` None is the machine's own zone.
2. A time that the clocks jump over in spring comes as much later as they jump; one that they show twice in autumn
   counts the first time. So every day has each time of day once.
3. Hours as `22:00-07:00` run over midnight; where both ends are equal there are none.
"""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo


def next_time(now: float, clock: str, zone: tzinfo | None = None) -> float:
    """The first moment after ``now`` at which clocks in ``zone`` show ``clock`` (HH:MM); both since the epoch."""
    hour, minute = (int(part) for part in clock.split(":"))
    today = datetime.fromtimestamp(now, zone).replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
    moments = ((today + timedelta(days)).replace(fold=0).timestamp() for days in range(3))
    return next(moment for moment in moments if moment > now)


def quiet_until(now: float, hours: str | None, zone: tzinfo | None = None) -> float | None:
    """When the quiet hours that ``now`` lies in are over; None outside of them."""
    if hours is None:
        return None
    begin, end = (next_time(now, clock, zone) for clock in hours.split("-"))
    return end if end < begin else None
