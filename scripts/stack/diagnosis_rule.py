"""The form of a row of the table in diagnosis_rules.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One way to fail. `why`, `cure` and `at` may name groups of the pattern, and what `diagnosis` adds to them.

    Attributes:
        pattern: what vLLM says, blanks and line breaks being one blank. Quoted is the group `quote`, or all it matches.
        why: in a few words what that means.
        cure: what to do.
        at: where: flags of the command, `model` (its argument), keys of the fragment such as `env.NAME`, or another name.
            Of several, the first that stands in the fragment.
        token: applies only with (True) or without (False) a Hugging Face token.
    """

    pattern: str
    why: str
    cure: str
    at: str
    token: bool | None = None
