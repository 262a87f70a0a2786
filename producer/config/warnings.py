"""What a producer.yaml may say and yet probably does not mean. `run` and `doctor` print it; nothing stops."""

from __future__ import annotations

import re
from collections.abc import Iterator

from producer.config.environment import ignored_names
from producer.config.load import ProducerConfig
from producer.config.roles import RoleConfig
from producer.core.money import format_usd

TOPIC = re.compile(r"[A-Za-z0-9_-]{1,64}")
TOPIC_LEAST = 22  # characters; 128 random bits are 22 of base64 and 32 of hex


def warnings(config: ProducerConfig) -> list[str]:
    """One line each, the most important first."""
    return [*_project(config), *(line for role in config.roles.values() for line in _role(config, role))]


def _project(config: ProducerConfig) -> Iterator[str]:
    if not config.roles:
        yield "budget.agents: no role is declared, so no task can run"
    elif "producer" not in config.roles:
        reserve = format_usd(config.producer_reservation)
        yield f"budget.agents: there is no `producer` role: a dispatch holds {reserve} USD for it"
    if config.notifications.idle_wakeup_enabled and config.roles and "wakeup" not in config.roles:
        yield "notifications.idle_wakeup_enabled: there is no `wakeup` role, so an idle queue is only told of"
    topic = config.notifications.ntfy_topic
    if topic and not TOPIC.fullmatch(topic):
        yield "notifications.ntfy_topic: ntfy takes at most 64 letters, digits, _ and -: nothing will arrive"
    elif topic and len(topic) < TOPIC_LEAST and not config.notifications.ntfy_token_env:
        yield "notifications.ntfy_topic: whoever guesses the topic reads along: take a longer, random one"
    if names := ignored_names(config):
        yield f".env: {', '.join(names)} not read from there: set in the environment what the program needs"


def _role(config: ProducerConfig, role: RoleConfig) -> Iterator[str]:
    where = f"budget.agents.{role.name}"
    if role.dispatch_reservation > min(role.daily_cap, config.budget.project_ceiling):
        yield f"{where}.dispatch_reservation_usd: more than a cap it is held on, so no task can start"
    if retired := sorted(set(role.allowed_tools) - set(role.current_tools)):
        yield f"{where}.allowed_tools: the claude CLI no longer has {', '.join(retired)}: left out"
    if role.permission_mode == "bypassPermissions":
        yield f"{where}.permission_mode: bypassPermissions lets the role's tools do anything"
    if role.sandbox == "none":
        yield f"{where}.sandbox: none: whatever runs in this role may do what you may do"
    if role.workspace == "shared" and (role.on_done != "merge" or role.reviewer or role.merge_into):
        yield f"{where}.workspace: shared: on_done, reviewer and merge_into have no effect"
    if role.prompt is None and role.name != "producer":
        yield f"{where}.prompt: none is named, so the role has no instructions but its task"
