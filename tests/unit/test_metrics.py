"""Metrics: dashboards, rules, what a Prometheus is told, and the check that asks it for all of them."""

from __future__ import annotations

import configparser
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import prometheus_check
from stack import plan
from stack.errors import RunError
from stack.metrics import dashboards, scrape
from stack.plan import Plan
from stack.runtime import metrics
from stack.runtime.layout import Layout
from stack.runtime.report import Silent

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "scripts" / "metrics"
SCRAPE = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
RULES = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"][0]["rules"]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]


def mounted(service: str, target: str) -> str:
    """What is mounted there, and how."""
    (found,) = [text for text in SERVICES[service]["volumes"] if f":{target}" in text]
    return str(found)


def make(root: Path, **environ: str) -> Plan:
    return plan.make(root, environ, [], "smollm2-135m")


# --- Dashboards


@pytest.mark.parametrize("uid", dashboards.DASHBOARDS)
def test_a_dashboard_is_what_its_definition_says(uid: str) -> None:
    """After a change: PYTHONPATH=scripts python -m stack.metrics.dashboards."""
    assert (dashboards.FOLDER / f"{uid}.json").read_text() == dashboards.render(uid)


def test_there_are_no_other_dashboards() -> None:
    assert {path.name for path in dashboards.FOLDER.iterdir()} == {f"{uid}.json" for uid in dashboards.DASHBOARDS}


@pytest.mark.parametrize("uid", dashboards.DASHBOARDS)
def test_panels_explain_themselves_and_name_no_data_source(uid: str) -> None:
    board = json.loads(dashboards.render(uid))
    assert board["editable"] is False
    assert [one["name"] for one in board["templating"]["list"]] == ["datasource"]
    places = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert (place["x"], place["y"]) not in places
        assert place["x"] + place["w"] <= 24
        places.add((place["x"], place["y"]))
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} | {panel["datasource"]["uid"]} == {
            "${datasource}"
        }
        assert all(target["legendFormat"] for target in panel["targets"]) or panel["type"] == "table"
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    titles = [panel["title"] for panel in board["panels"]]
    assert len(set(titles)) == len(titles)


# --- Rules


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "cure"}
        assert rule["for"]


def test_every_alert_has_a_test_in_which_it_fires_and_one_in_which_nothing_does() -> None:
    tests = yaml.safe_load((REPOSITORY / "tests" / "metrics" / "rules.yml").read_text())["tests"]
    samples = [sample for one in tests for expr in one["promql_expr_test"] for sample in expr["exp_samples"]]
    fired = set(re.findall(r'alertname="(\w+)"', str(samples)))
    assert fired == {rule["alert"] for rule in RULES}
    well = tests[0]
    assert [expr["exp_samples"] for expr in well["promql_expr_test"]] == [[]] * len(well["promql_expr_test"])
    # Each has what it looks at there: else it would be quiet for want of data.
    names = {re.split(r"[{]", one["series"])[0] for one in well["input_series"]}
    for rule in RULES:
        assert {query.partition("{")[0] for query in prometheus_check.selectors(rule["expr"])} <= names, rule["alert"]


def test_alerts_look_at_jobs_that_there_are() -> None:
    jobs = {job["job_name"] for job in SCRAPE["scrape_configs"]}
    expressions = [rule["expr"] for rule in RULES] + list(dashboards.expressions())
    asked = {name for text in expressions for names in re.findall(r'job!?=~?"([^"]+)"', text) for name in names.split("|")}
    assert asked
    assert asked <= jobs


# --- What Prometheus is told


def test_prometheus_finds_each_container_by_its_name_and_port() -> None:
    targets = {job["job_name"]: job["static_configs"][0]["targets"][0] for job in SCRAPE["scrape_configs"]}
    assert targets == {
        "engine": "vllm-node:8000",
        "gateway": "litellm:4000",
        "database": "postgres-exporter:9187",
        "machine": "node-exporter:9100",
        "gpu": "gpu-exporter:9835",
        "prometheus": "localhost:9090",
    }
    assert {target.partition(":")[0] for target in targets.values()} - {"localhost"} <= set(SERVICES)
    networks = {name: set(service.get("networks", ["default"])) for name, service in SERVICES.items()}
    for target in targets.values():
        name = target.partition(":")[0]
        assert name == "localhost" or networks[name] & networks["prometheus"], name


def test_the_key_is_where_setup_puts_it() -> None:
    (gateway,) = [job for job in SCRAPE["scrape_configs"] if "authorization" in job]
    folder = Path(gateway["authorization"]["credentials_file"]).parent
    assert mounted("prometheus", str(folder)) == f"{mounted('setup', '/run/metrics')}:ro"


def test_the_same_for_a_prometheus_outside(root: Path, tmp_path: Path) -> None:
    made = make(root, METRICS="true", LITELLM_PORT="4444", ENGINE_PORT="8888", BIND_ADDRESS="::", LOCAL_KEY="false")
    layout = Layout(root, tmp_path / "state", tmp_path / "secrets", tmp_path / "envs")
    path = metrics.write_config(made, layout)
    text = path.read_text()
    written = yaml.safe_load(text)
    assert "&" not in text.partition("\n\n")[0] + text[200:]
    assert written["rule_files"] == [str(FOLDER / "rules.yml")]
    jobs = {job["job_name"]: job for job in written["scrape_configs"]}
    assert jobs["engine"]["static_configs"] == [{"targets": ["127.0.0.1:8888"]}]
    assert jobs["gateway"]["static_configs"] == [{"targets": ["[::1]:4444"]}]
    assert jobs["gateway"]["authorization"] == {"credentials_file": str(layout.secrets / "METRICS_API_KEY")}
    # The rest is as shipped.
    for job in SCRAPE["scrape_configs"]:
        other = jobs[job["job_name"]]
        assert {key: value for key, value in other.items() if key not in ("static_configs", "authorization")} == {
            key: value for key, value in job.items() if key not in ("static_configs", "authorization")
        }


def test_a_job_without_an_address_is_noticed(root: Path) -> None:
    addresses = scrape.targets(make(root).resolved)
    text = (FOLDER / "prometheus.yml").read_text()
    with pytest.raises(KeyError):
        scrape.config(text, {key: value for key, value in addresses.items() if key != "gpu"}, "key", "rules")


# --- Grafana


def test_grafana_finds_what_is_mounted() -> None:
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(FOLDER / "grafana" / "grafana.ini")
    inside = "/etc/stack"
    assert mounted("grafana", inside) == f"./scripts/metrics/grafana:{inside}:ro"
    assert SERVICES["grafana"]["environment"]["GF_PATHS_CONFIG"] == f"{inside}/grafana.ini"
    for text in (settings["paths"]["provisioning"], settings["dashboards"]["default_home_dashboard_path"]):
        assert (FOLDER / "grafana" / text.removeprefix(f"{inside}/")).exists()
    password = re.fullmatch(r"\$__file\{(.+)\}", settings["security"]["admin_password"])
    assert password is not None
    assert Path(password[1]).parent == Path("/run/metrics")
    assert (settings["auth.anonymous"]["enabled"], settings["auth.anonymous"]["org_role"]) == ("true", "Viewer")
    provided = yaml.safe_load((FOLDER / "grafana/provisioning/dashboards/dashboards.yml").read_text())["providers"][0]
    assert (provided["allowUiUpdates"], provided["options"]["path"]) == (False, f"{inside}/dashboards")
    source = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
    assert (source["url"], source["uid"], source["editable"]) == ("http://prometheus:9090", "prometheus", False)


# --- The gateway


def test_the_gateway_counts_only_if_asked(root: Path) -> None:
    off, on = (yaml.safe_load(make(root, **given).gateway_config) for given in ({}, {"METRICS": "true"}))
    assert "prometheus" not in off["litellm_settings"]["callbacks"]
    assert not any("prometheus" in key for key in off["litellm_settings"])
    assert on["litellm_settings"]["callbacks"] == [*off["litellm_settings"]["callbacks"], "prometheus"]
    groups = on["litellm_settings"]["prometheus_metrics_config"]
    names = {name for group in groups for name in group["metrics"]}
    labels = {label for group in groups for label in group.get("include_labels", [])}
    assert labels == {"api_key_alias", "route", "status_code", "model"}
    # Nothing is asked for that is left out, and nothing is kept that nobody asks for.
    text = "\n".join([*dashboards.expressions(), *(rule["expr"] for rule in RULES)])
    asked = {re.sub(r"_(total|bucket)$", "", name) for name in re.findall(r"litellm_\w+", text)}
    assert asked == names - {"litellm_in_flight_requests"}


def test_only_the_gateway_is_started_anew_for_metrics(root: Path) -> None:
    off, on = make(root), make(root, METRICS="true")
    assert off.engine_digest == on.engine_digest
    assert off.gateway_digest != on.gateway_digest


# --- Waiting


def test_waits_until_all_are_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    answers = [["prometheus", "grafana"], ["grafana"], []]
    metrics.wait(lambda: answers.pop(0), Silent())
    assert answers == []


def test_gives_up_on_what_does_not_become_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(metrics, "START_SECONDS", -1)
    with pytest.raises(RunError, match="not ready after -1 s: grafana"):
        metrics.wait(lambda: ["grafana"], Silent())


def test_a_machine_without_a_gpu_asks_none() -> None:
    assert set(metrics.services(gpu=True)) - set(metrics.services(gpu=False)) == {"gpu-exporter"}


# --- The check


@pytest.mark.parametrize(
    ("expression", "vectors"),
    [
        ('up{job="a"} == 0', ['up{job="a"}']),
        ("sum(rate(x[5m])) / sum(rate(y[5m])) > 0.05", ["sum(rate(x[5m])) / sum(rate(y[5m]))"]),
        ("a > 0\nand b[10m] < 1e-3", ["a", "b[10m]"]),
        ("(sum(a) or vector(0)) / b >= 2\nor c unless d != -1", ["(sum(a) or vector(0)) / b", "c", "d"]),
        ('x{l="and or > 5"} > 5', ['x{l="and or > 5"}']),
    ],
)
def test_an_alert_is_asked_without_its_comparison(expression: str, vectors: list[str]) -> None:
    assert prometheus_check.vectors(expression) == vectors


def test_each_metric_is_asked_with_the_labels_that_are_used_of_it() -> None:
    assert prometheus_check.selectors("sum by (le, job) (rate(vllm:a_bucket[1m])) / pg_up", "{{job}} {{ mode }}") == [
        'vllm:a_bucket{job!="", mode!=""}',
        'pg_up{job!="", mode!=""}',
    ]
    assert prometheus_check.selectors('up{job="node_x"} + up') == ["up"]


def answers(**known: float) -> Callable[[str], list[float]]:
    """A Prometheus with these metrics, each without labels."""

    def ask(query: str) -> list[float]:
        names = re.findall(r"[a-z]+_\w+", query)
        return [value for name, value in known.items() if names == [name] * len(names)] if names else [0.0]

    return ask


def test_a_renamed_metric_is_noticed() -> None:
    rule = "(sum(rate(litellm_old[5m])) or vector(0)) > 5"
    assert prometheus_check.missing(rule, answers(litellm_old=1)) == []
    # The expression itself is hidden by `or vector(0)`; the metric by itself is not.
    assert "litellm_old" in prometheus_check.missing(rule, answers(litellm_new=1))


def test_no_number_is_no_data() -> None:
    assert prometheus_check.missing("pg_up", answers(pg_up=float("nan"))) == ["pg_up", "pg_up"]
    assert prometheus_check.missing("pg_up", answers(pg_up=0.0)) == []


def test_what_fires_is_prometheus_own() -> None:
    def ask(query: str) -> Any:
        raise AssertionError(query)

    assert prometheus_check.missing('ALERTS{alertstate="firing"}', ask) == []
