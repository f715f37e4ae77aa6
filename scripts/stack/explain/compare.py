"""What differs between two models, a model and what runs, or two releases. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from stack.explain import rows
from stack.explain.rows import Row
from stack.plan import Plan


@dataclass(frozen=True)
class Difference:
    """One key that is not the same on both sides.

    Attributes:
        section: as in Row.
        key: as in Row.
        before: the row of the first side, or None.
        after: the row of the second side, or None.
    """

    section: str
    key: str
    before: Row | None
    after: Row | None

    @property
    def help(self) -> str:
        """One line on what it does."""
        return (self.after or self.before or Row("", "", "", "")).help


def differences(before: Plan, after: Plan) -> list[Difference]:
    """Every key whose value differs, in the order of the sections; where it comes from does not count."""
    left, right = _by_key(before), _by_key(after)
    order = list(rows.TITLES)
    keys = sorted(dict.fromkeys([*left, *right]), key=lambda key: order.index(key[0]))
    return [
        Difference(*key, left.get(key), right.get(key)) for key in keys if _value(left.get(key)) != _value(right.get(key))
    ]


def restarts(before: Plan, after: Plan) -> list[str]:
    """The parts that a change from one to the other starts anew."""
    found = []
    if before.engine_digest != after.engine_digest:
        found.append("the engine")
    if before.gateway_digest != after.gateway_digest:
        found.append("the gateway")
    return found


def _by_key(plan: Plan) -> dict[tuple[str, str], Row]:
    return {(row.section, row.key): row for row in [*rows.of(plan), *rows.settings(plan)]}


def _value(row: Row | None) -> str | None:
    return None if row is None else row.value
