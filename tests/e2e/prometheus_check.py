"""Whether PromQL expressions find anything in a Prometheus: what a dashboard or an alert asks for may have been renamed.

An alert that does not fire and one that never can look alike: so its expression is asked without its comparison, and each
metric in it by itself, with the labels that are used of it.
"""

from __future__ import annotations

import json
import math
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

# Of a vector: its values. Empty: there is no data.
Ask = Callable[[str], list[float]]
_NAME = re.compile(r"(?<![\w:\"'])(?:up|(?:vllm:|litellm_|pg_|node_|nvidia_smi_|process_)\w+)\b(?!\")")
_COMPARISON = re.compile(r"\s*(?:==|!=|<=|>=|<|>)\s*-?[\d.]+(?:e-?\d+)?\s*$")
_BY = re.compile(r"\bby \(([^)]*)\)")
_LEGEND = re.compile(r"\{\{\s*(\w+)\s*\}\}")
# Made by Prometheus itself, and only while something fires.
_OWN = "ALERTS"


def vectors(expression: str) -> list[str]:
    """What is compared or joined by and, or, unless at the top of an expression, each without its comparison."""
    found, depth, begin, quote = [], 0, 0, ""
    for match in re.finditer(r"[(){}\[\]\"']|\b(?:and|or|unless)\b", expression):
        text = match[0]
        if quote:
            quote = "" if text == quote else quote
        elif text in "\"'":
            quote = text
        elif text in "({[":
            depth += 1
        elif text in ")}]":
            depth -= 1
        elif depth == 0:
            found.append(expression[begin : match.start()])
            begin = match.end()
    found.append(expression[begin:])
    return [_COMPARISON.sub("", one.strip()) for one in found]


def selectors(expression: str, legend: str = "") -> list[str]:
    """Each metric of an expression; those with labels that are used for grouping or in the legend, with these."""
    labels = {name.strip() for names in _BY.findall(expression) for name in names.split(",")} | set(_LEGEND.findall(legend))
    needed = ", ".join(f'{label}!=""' for label in sorted(labels - {"le"}))
    return [f"{name}{{{needed}}}" if needed else name for name in dict.fromkeys(_NAME.findall(expression))]


def missing(expression: str, ask: Ask, legend: str = "") -> list[str]:
    """What of an expression has no data; NaN is none."""
    if expression.startswith(_OWN):
        return []
    asked = [*vectors(expression), *selectors(expression, legend)]
    return [query for query in asked if not any(not math.isnan(value) for value in ask(query))]


def alerts(path: Path) -> dict[str, str]:
    """Alert -> expression, of a file of rules."""
    groups: Iterable[dict[str, Any]] = yaml.safe_load(path.read_text())["groups"]
    return {rule["alert"]: str(rule["expr"]) for group in groups for rule in group["rules"]}


class Prometheus:
    """One that runs."""

    def __init__(self, port: int) -> None:
        self.base = f"http://127.0.0.1:{port}"

    def get(self, path: str, **parameters: str) -> Any:
        """An answer of its API."""
        url = f"{self.base}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())["data"]

    def ask(self, query: str) -> list[float]:
        """The values of a query now."""
        return [float(entry["value"][1]) for entry in self.get("/api/v1/query", query=query)["result"]]

    def value(self, query: str) -> float:
        """Of a query with one value; 0 if there is none."""
        found = self.ask(query)
        return found[0] if found else 0.0
