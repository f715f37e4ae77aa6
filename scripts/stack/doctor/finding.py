"""What a check found."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stack.doctor.probe import Probe

OK, WARNING, FAULT, NONE = "ok", "warning", "fault", "not applicable"
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_KEYS = re.compile(r"\b(hf_|sk-)(?!FAKE\b)[A-Za-z0-9_-]{6,}")


@dataclass(frozen=True)
class Finding:
    """One line of the result.

    Attributes:
        level: ok, warning (it may work), fault (something is broken) or not applicable.
        what: what was found.
        cure: what to do; each warning and fault has one.
        check: name of the check that found it.
    """

    level: str
    what: str
    cure: str = ""
    check: str = ""


@dataclass(frozen=True)
class Check:
    """Something to examine.

    Attributes:
        name: a few words.
        run: looks; it may raise or hang, which becomes a finding.
    """

    name: str
    run: Callable[[Probe], Iterable[Finding]]


def ok(what: str) -> Finding:
    """Nothing to do."""
    return Finding(OK, what)


def warning(what: str, cure: str) -> Finding:
    """It may work, or will hurt later."""
    return Finding(WARNING, what, cure)


def fault(what: str, cure: str) -> Finding:
    """Something is broken."""
    return Finding(FAULT, what, cure)


def none(what: str) -> Finding:
    """Does not matter here."""
    return Finding(NONE, what)


def graded(broken: bool, what: str, cure: str) -> Finding:
    """A fault if it is in the way, else a warning."""
    return fault(what, cure) if broken else warning(what, cure)


def hidden(text: str, secrets: Iterable[str]) -> str:
    """A text on one line, without secrets or anything that looks like one, whichever way it came in."""
    for secret in secrets:
        text = text.replace(secret, "(not shown)")
    return " ".join(_KEYS.sub(r"\1(not shown)", _CREDENTIALS.sub("", text)).split())
