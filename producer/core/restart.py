"""When a dead worker is started again, and when its role is given up (OTP's restart intensity, with backoff).

1. Only unexpected exits come here; a drained worker that leaves is not restarted.
2. ``history`` holds the moments of the role's recent bad exits, oldest first. It is all the state there is.
3. A process that lived for ``healthy_seconds`` clears the history: its death is the first of a new series.
4. The n-th bad exit in a row waits base * 2**(n-1) seconds, at most ``cap``; half of that is jitter, the other half is
   certain, so that no crash loop is hot and a fleet that died together does not come back in one instant.
5. More than ``intensity`` bad exits within ``window`` seconds park the role: a human is told, and resets it
   by emptying the history.
6. Moments that lie after ``now`` (the clock was set back) are forgotten. A monotonic clock is best.
"""

from __future__ import annotations

from dataclasses import dataclass

_DOUBLINGS = 64  # beyond every cap, and still a finite float


@dataclass(frozen=True)
class RestartPolicy:
    """Seconds, but for ``intensity``: how many restarts within ``window`` are bearable."""

    base: float = 1.0
    cap: float = 60.0
    healthy_seconds: float = 60.0
    intensity: int = 5
    window: float = 300.0


@dataclass(frozen=True)
class RestartAt:
    """Start the worker again at ``at``, and keep ``history``."""

    at: float
    history: tuple[float, ...]


@dataclass(frozen=True)
class Park:
    """Start none of the role's workers until a human resets it."""

    history: tuple[float, ...]


def on_exit(
    history: tuple[float, ...], policy: RestartPolicy, started: float, now: float, jitter: float
) -> RestartAt | Park:
    """Decide on a worker that ran from ``started`` to ``now``; ``jitter`` is uniform in 0..1."""
    healthy = now - started >= policy.healthy_seconds
    history = (*(() if healthy else recent(history, now, policy.window)), now)
    if len(history) > policy.intensity:
        return Park(history)
    delay = min(policy.cap, policy.base * 2.0 ** min(len(history) - 1, _DOUBLINGS))
    return RestartAt(now + delay * (1 + jitter) / 2, history)


def recent(history: tuple[float, ...], now: float, window: float) -> tuple[float, ...]:
    """The moments that lie in the last ``window`` seconds; neither older ones nor ones that are yet to come."""
    return tuple(at for at in history if 0 <= now - at <= window)
