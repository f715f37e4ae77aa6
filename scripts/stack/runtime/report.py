"""How long work shows that it goes on. The CLI decides what it looks like; everything else only reports."""

from __future__ import annotations

from typing import Protocol

# The phase that stands for all of a start.
TOTAL = "in all"


class Report(Protocol):
    """Receives what happens."""

    def phase(self, name: str, text: str, done: float | None = None) -> None:
        """A phase goes on.

        Args:
            name: what is being done, for example `engine environment`.
            text: where it stands.
            done: fraction from 0 to 1, if known.
        """

    def finished(self, name: str, text: str) -> None:
        """A phase has ended."""

    def note(self, text: str) -> None:
        """Something worth knowing."""


class Silent:
    """Reports to nobody."""

    def phase(self, name: str, text: str, done: float | None = None) -> None:
        """Nothing."""

    def finished(self, name: str, text: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
