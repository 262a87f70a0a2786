"""The sandbox of an attempt: what the whole claude process, its shells and its servers can see and change.

1. `wishes.py` (the supervisor's side) says what a role wants and what of the project is protected; it travels in the
   task's message. `plan.py` (the worker's side) makes of it one map from paths to what may be done there.
2. `bwrap.py` turns the map into a bubblewrap command line, `walls.py` into Landlock rules. `choice.py` finds out which
   of the two this machine has; where neither works the role is refused, unless it says `sandbox: none`.
3. `confine.py` and `relay.py` run as scripts of their own, with the standard library alone, inside what they enclose.
4. docs/sandbox.md says what each of the three ways keeps out, and what it does not.
"""

from producer.sandbox.choice import Way, choose, in_force
from producer.sandbox.enclose import Ground, enclose
from producer.sandbox.wishes import NARROW, Wishes, narrowed, problem, warded

__all__ = ["NARROW", "Ground", "Way", "Wishes", "choose", "enclose", "in_force", "narrowed", "problem", "warded"]
