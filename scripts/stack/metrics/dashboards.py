"""The dashboards as data, and as the JSON that Grafana reads.

After a change, from the repository's root:

    PYTHONPATH=scripts python -m stack.metrics.dashboards
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "metrics" / "grafana" / "dashboards"
# Grafana's grid is 24 wide.
_WIDTH, _HEIGHT, _ACROSS = 8, 8, 3
_REQUESTS = "litellm_proxy_total_requests_metric_total"
# A machine without a GPU has no exporter for one.
_UP = '(up{job!="gpu"} or up{job="gpu"} == 1)'
_FIRING = 'ALERTS{alertstate="firing"}'


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        title: above it.
        help: what it shows and what to make of it.
        unit: Grafana's name of a unit.
        queries: PromQL -> legend.
        kind: timeseries, stat, table or bargauge.
        top: the upper end of the axis, where there is one.
        stacked: whether the series are parts of a whole.
        needs: the job without which it has nothing to show, where that job is optional.
    """

    title: str
    help: str
    unit: str
    queries: Mapping[str, str]
    kind: str = "timeseries"
    top: float | None = None
    stacked: bool = False
    needs: str = ""


def _quantiles(histogram: str, name: str = "") -> dict[str, str]:
    """Median and 95th percentile."""
    prefix = f"{name} " if name else ""
    return {
        f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucket[$__rate_interval])))": f"{prefix}{legend}"
        for q, legend in ((0.5, "p50"), (0.95, "p95"))
    }


def _rate(selector: str, by: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({selector}[$__rate_interval]))"


SERVING = (
    Panel("Up", "Whether each part answers Prometheus: 1 it does.", "bool_yes_no", {_UP: "{{job}}"}, "stat"),
    Panel("Alerts", "What fires now. Summary and cure: Prometheus, page Alerts.", "short", {_FIRING: ""}, "table"),
    Panel(
        "Requests in the engine",
        "Those it computes and those that wait for a place. A queue that stays is more than the engine can do.",
        "short",
        {"sum(vllm:num_requests_running)": "running", "sum(vllm:num_requests_waiting)": "waiting"},
        stacked=True,
    ),
    Panel(
        "Answers by status",
        "What clients get from the gateway. 429: a key's limit; 503: the engine loads or is gone.",
        "reqps",
        {_rate(_REQUESTS, "status_code"): "{{status_code}}"},
        stacked=True,
    ),
    Panel(
        "Time to first token",
        "Measured in the engine, waiting included.",
        "s",
        _quantiles("vllm:time_to_first_token_seconds"),
    ),
    Panel(
        "Time between tokens",
        "Measured in the engine; it grows with the number of requests it computes at once.",
        "s",
        _quantiles("vllm:inter_token_latency_seconds"),
    ),
    Panel(
        "Tokens",
        "What the engine reads and writes.",
        "short",
        {_rate("vllm:prompt_tokens_total"): "prompt tokens/s", _rate("vllm:generation_tokens_total"): "generated tokens/s"},
    ),
    Panel(
        "KV cache",
        "How full it is. Full: requests wait, or are taken out and computed again.",
        "percentunit",
        {"max(vllm:kv_cache_usage_perc)": "used"},
        top=1,
    ),
    Panel(
        "Prefix cache",
        "The part of the prompt tokens that were in the cache and did not have to be computed.",
        "percentunit",
        {f"{_rate('vllm:prefix_cache_hits_total')} / {_rate('vllm:prefix_cache_queries_total')}": "hits"},
        top=1,
    ),
    Panel(
        "Whole requests",
        "From beginning to end, at the gateway and in the engine; the difference is the gateway and the client's reading.",
        "s",
        {
            **_quantiles("litellm_request_total_latency_metric", "gateway"),
            **_quantiles("vllm:e2e_request_latency_seconds", "engine"),
        },
    ),
    Panel(
        "Waiting in the engine",
        "Before a request is computed.",
        "s",
        _quantiles("vllm:request_queue_time_seconds"),
    ),
    Panel(
        "How requests end",
        "stop: by themselves; length: at their limit; abort: the client went away. Preempted: taken out for want of cache.",
        "reqps",
        {
            _rate("vllm:request_success_total", "finished_reason"): "{{finished_reason}}",
            _rate("vllm:num_preemptions_total"): "preempted",
        },
    ),
)

USAGE = (
    Panel(
        "Requests by key",
        "In the time that is shown, by the key's alias.",
        "short",
        {f"sum by (api_key_alias) (increase({_REQUESTS}[$__range]))": "{{api_key_alias}}"},
        "bargauge",
    ),
    Panel(
        "Prompt tokens by key",
        "In the time that is shown. To be billed, take the database's records: these counters end with the gateway.",
        "short",
        {"sum by (api_key_alias) (increase(litellm_input_tokens_metric_total[$__range]))": "{{api_key_alias}}"},
        "bargauge",
    ),
    Panel(
        "Generated tokens by key",
        "In the time that is shown.",
        "short",
        {"sum by (api_key_alias) (increase(litellm_output_tokens_metric_total[$__range]))": "{{api_key_alias}}"},
        "bargauge",
    ),
    Panel(
        "Requests by key over time",
        "Refused ones included.",
        "reqps",
        {_rate(_REQUESTS, "api_key_alias"): "{{api_key_alias}}"},
        stacked=True,
    ),
    Panel(
        "Generated tokens by key over time",
        "Counted when a request has ended.",
        "short",
        {_rate("litellm_output_tokens_metric_total", "api_key_alias"): "{{api_key_alias}}"},
        stacked=True,
    ),
    Panel(
        "Generated tokens by model",
        "By the fragment's name.",
        "short",
        {_rate("litellm_output_tokens_metric_total", "model"): "{{model}}"},
        stacked=True,
    ),
    Panel(
        "Requests by route",
        "Which API clients speak.",
        "reqps",
        {_rate(_REQUESTS, "route"): "{{route}}"},
        stacked=True,
    ),
    Panel(
        "Refused by key",
        "4xx by key: 401 a wrong key, 429 its limit.",
        "reqps",
        {_rate(_REQUESTS + '{status_code=~"4.."}', "api_key_alias, status_code"): "{{api_key_alias}} {{status_code}}"},
    ),
    Panel(
        "Usage records",
        "Rows written to the database; about as many as requests are answered.",
        "reqps",
        {
            _rate('pg_stat_user_tables_n_tup_ins{relname="LiteLLM_SpendLogs"}'): "written",
            _rate(_REQUESTS + '{status_code="200"}'): "answered",
        },
    ),
)

MACHINE = (
    Panel(
        "Processors",
        "Busy, of all of them.",
        "percentunit",
        {'1 - avg(rate(node_cpu_seconds_total{mode="idle"}[$__rate_interval]))': "busy"},
        top=1,
    ),
    Panel(
        "Memory",
        "Of the machine. Where GPU and CPU share it, the model is in it.",
        "bytes",
        {
            "node_memory_MemTotal_bytes - node_memory_MemAvailable_bytes": "used",
            "node_memory_MemTotal_bytes": "there is",
        },
    ),
    Panel(
        "Memory of the gateway and the engine's front",
        "Of their own processes; the engine's core, which holds the model, is another.",
        "bytes",
        {'process_resident_memory_bytes{job=~"engine|gateway"}': "{{job}}"},
    ),
    Panel(
        "Disks",
        "What is free.",
        "percentunit",
        {
            'node_filesystem_avail_bytes{fstype!~"tmpfs|ramfs"} / node_filesystem_size_bytes': "{{mountpoint}}",
        },
        top=1,
    ),
    Panel(
        "Reading and writing",
        "Of all disks. Much reading while a model loads.",
        "Bps",
        {_rate("node_disk_read_bytes_total"): "read", _rate("node_disk_written_bytes_total"): "written"},
    ),
    Panel(
        "Load",
        "Processes that run or wait to, next to the number of processors.",
        "short",
        {"node_load1": "load", 'count(node_cpu_seconds_total{mode="idle"})': "processors"},
    ),
    Panel(
        "GPU",
        "The part of the time in which it computed anything.",
        "percentunit",
        {"nvidia_smi_utilization_gpu_ratio": "{{uuid}}"},
        top=1,
        needs="gpu",
    ),
    Panel(
        "GPU memory",
        "vLLM takes its part at the start. A GPU that shares the machine's memory reports none.",
        "bytes",
        {"nvidia_smi_memory_used_bytes": "used {{uuid}}", "nvidia_smi_memory_total_bytes": "there is {{uuid}}"},
        needs="gpu",
    ),
    Panel(
        "GPU power",
        "In watts.",
        "watt",
        {"nvidia_smi_power_draw_watts": "{{uuid}}"},
        needs="gpu",
    ),
    Panel(
        "GPU temperature",
        "Above 85 °C most slow down.",
        "celsius",
        {"nvidia_smi_temperature_gpu": "{{uuid}}"},
        needs="gpu",
    ),
    Panel(
        "Database connections",
        "Next to how many there may be.",
        "short",
        {
            'sum(pg_stat_activity_count{datname="litellm"})': "in use",
            "max(pg_settings_max_connections)": "there may be",
        },
    ),
    Panel(
        "Database size",
        "Keys and usage records.",
        "bytes",
        {'pg_database_size_bytes{datname="litellm"}': "litellm"},
    ),
)

DASHBOARDS: Mapping[str, tuple[str, tuple[Panel, ...]]] = {
    "serving": ("Serving", SERVING),
    "usage": ("Usage", USAGE),
    "machine": ("Machine", MACHINE),
}


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _ACROSS)
    one_shot = panel.kind != "timeseries"
    targets = [
        {
            "refId": chr(ord("A") + place),
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "expr": expression,
            "legendFormat": legend,
            "instant": one_shot,
            "range": not one_shot,
            **({"format": "table"} if panel.kind == "table" else {}),
        }
        for place, (expression, legend) in enumerate(panel.queries.items())
    ]
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.top is not None:
        defaults["max"] = panel.top
    if panel.kind == "timeseries":
        stacking = {"mode": "normal" if panel.stacked else "none", "group": "A"}
        defaults["custom"] = {"fillOpacity": 20 if panel.stacked else 0, "showPoints": "never", "stacking": stacking}
    options: dict[str, dict[str, Any]] = {
        "timeseries": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value_and_name", "colorMode": "none"},
        "bargauge": {"reduceOptions": {"calcs": ["lastNotNull"]}, "orientation": "horizontal"},
        "table": {},
    }
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.help,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options[panel.kind],
        "targets": targets,
    }


def render(uid: str) -> str:
    """A dashboard as JSON."""
    title, panels = DASHBOARDS[uid]
    datasource = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    current = {"text": "Prometheus", "value": "prometheus"}
    board = {
        "uid": uid,
        "title": title,
        "tags": ["vllm-multi-model"],
        "schemaVersion": 39,
        "editable": False,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "15s",
        "links": [{"type": "dashboards", "title": "Dashboards", "tags": ["vllm-multi-model"], "asDropdown": False}],
        "templating": {"list": [{**datasource, "current": current}]},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }
    return json.dumps(board, indent=1, ensure_ascii=False) + "\n"


def expressions() -> dict[str, Panel]:
    """Every PromQL expression of every dashboard, and the panel it is in."""
    return {query: panel for _, panels in DASHBOARDS.values() for panel in panels for query in panel.queries}


if __name__ == "__main__":
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(render(name), "utf-8")
