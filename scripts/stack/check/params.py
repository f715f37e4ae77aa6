"""`litellm:` beyond the names, which stack.fragment checks: values of sampling parameters, and what extra_body has. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from stack.check import catalogue
from stack.check.sampling import check_param
from stack.errors import Problem, did_you_mean
from stack.fragment import Fragment


def check_params(fragment: Fragment) -> Iterator[Problem]:
    """What is wrong with the values."""
    place = fragment.document.place
    for name, value in fragment.litellm.items():
        finding = check_param(name, value)
        if finding:
            yield Problem(place(("litellm", name)), f"litellm.{name}: {finding.what}", finding.cure, finding.level)
    body = fragment.litellm.get("extra_body")
    if not isinstance(body, dict):
        return
    known = catalogue.request_params()
    for name, value in body.items():
        where, shown = place(("litellm", "extra_body", name)), f"litellm.extra_body.{name}"
        if name not in known:
            near = did_you_mean(name, known)
            cure = near or "what no engine reads changes nothing"
            yield Problem(where, f"{shown}: vLLM ignores it", cure, "error" if near else "warning")
        finding = check_param(name, value)
        if finding:
            yield Problem(where, f"{shown}: {finding.what}", finding.cure, finding.level)
