"""Metrics, where they are asked for: Prometheus and Grafana beside the containers, or a configuration for a Prometheus.

The API does not wait for them, and nothing ends with them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from stack.errors import Problem, RunError
from stack.files import write_atomic
from stack.metrics import scrape
from stack.plan import Plan
from stack.runtime import secret_files
from stack.runtime.layout import Layout
from stack.runtime.report import Report
from stack.settings import Resolved

# Service -> container.
CONTAINERS = {
    "prometheus": "litellm_prometheus",
    "grafana": "litellm_grafana",
    "postgres-exporter": "litellm_postgres_exporter",
    "node-exporter": "litellm_node_exporter",
    "gpu-exporter": "litellm_gpu_exporter",
}
LABEL = "metrics"
START_SECONDS = 120


def services(gpu: bool) -> list[str]:
    """Those that a machine with or without a GPU has."""
    return [name for name in CONTAINERS if gpu or name != "gpu-exporter"]


def url(resolved: Resolved) -> str:
    """Grafana's address."""
    return f"http://127.0.0.1:{resolved['GRAFANA_PORT']}"


def write_config(plan: Plan, layout: Layout) -> Path:
    """The configuration for a Prometheus on this machine.

    Returns:
        Where it is.
    """
    shipped = layout.scripts / "metrics"
    key = str(secret_files.place(layout.secrets, "METRICS_API_KEY", os.environ))
    text = (shipped / "prometheus.yml").read_text("utf-8")
    target = layout.metrics / "prometheus.yml"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(target, scrape.config(text, scrape.targets(plan.resolved), key, str(shipped / "rules.yml")))
    return target


def wait(unready: Callable[[], list[str]], report: Report) -> None:
    """Until all of them are ready.

    Args:
        unready: the containers that are not, each with how it is.
        report: receives progress.

    Raises:
        RunError: some do not become ready.
    """
    started = time.monotonic()
    while missing := unready():
        if time.monotonic() - started > START_SECONDS:
            cure = "look: docker compose --profile metrics logs"
            raise RunError(Problem(LABEL, f"not ready after {START_SECONDS} s: {', '.join(missing)}", cure))
        report.phase(LABEL, f"waiting for {', '.join(missing)}")
        time.sleep(0.5)
    report.finished(LABEL, f"ready after {time.monotonic() - started:.1f} s")
