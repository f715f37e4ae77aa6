"""Metrics: a real Prometheus asks the real stack, and finds everything that dashboards and alerts ask it for."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import debian
import prometheus_check
from harness import PATIENCE, QUESTION, REPOSITORY, Stack, free_port, wait_for
from prometheus_check import Prometheus
from stack.metrics import dashboards
from stack.runtime.layout import Layout

pytestmark = [
    pytest.mark.last,
    pytest.mark.only("native", reason="the images cannot be had where these tests run; unit tests look at the compose file"),
    pytest.mark.timeout(600),
]
METRICS = REPOSITORY / "scripts" / "metrics"
REQUESTS = "litellm_proxy_total_requests_metric_total"
ALIAS = "metrics test"
# Answered, each with so many generated tokens; 16 would be the limit of sk-FAKE, this key has 2.
TOKENS = 8
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": TOKENS},
    "/v1/completions": {"prompt": QUESTION, "max_tokens": TOKENS},
    "/v1/messages": {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": TOKENS},
    "/v1/responses": {"input": QUESTION, "max_output_tokens": TOKENS},
}


@pytest.fixture(scope="module")
def programs() -> Path:
    """Prometheus, its tool and the exporters, from Debian."""
    packages = ("prometheus", "promtool", "prometheus-node-exporter", "prometheus-postgres-exporter")
    return debian.unpack(Layout.from_environ(os.environ).environments / "prometheus", *packages)


@pytest.mark.parametrize(
    "arguments",
    [("check", "config", "--syntax-only", "scripts/metrics/prometheus.yml"), ("test", "rules", "tests/metrics/rules.yml")],
    ids=["config", "rules"],
)
def test_the_tool_of_prometheus_accepts(programs: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run([str(programs / "promtool"), *arguments], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_that_never_fires_is_noticed(programs: Path, tmp_path: Path) -> None:
    """The tests of the rules can fail."""
    (tmp_path / "tests" / "metrics").mkdir(parents=True)
    (tmp_path / "scripts" / "metrics").mkdir(parents=True)
    tests = tmp_path / "tests" / "metrics" / "rules.yml"
    tests.write_text((REPOSITORY / "tests" / "metrics" / "rules.yml").read_text())
    text = (METRICS / "rules.yml").read_text()
    for right, wrong in (("kv_cache_usage_perc", "gpu_cache_usage_perc"), ("> 0.05", "> 0.5"), ("> 0.05", "> 0.01")):
        assert right in text
        (tmp_path / "scripts" / "metrics" / "rules.yml").write_text(text.replace(right, wrong))
        done = subprocess.run([str(programs / "promtool"), "test", "rules", str(tests)], capture_output=True, text=True)
        assert done.returncode != 0, f"{right} -> {wrong}"


@pytest.fixture(scope="module")
def measured(started: Stack) -> Iterator[Stack]:
    """The stack with its metrics on, which only the gateway is started anew for."""
    started.as_shipped()
    before = started.pids()
    done = started.run(METRICS="true")
    after = started.pids()
    assert {name for name in before if before[name] != after[name]} <= {"gateway"}
    assert "prometheus --config.file" in done.stderr
    try:
        yield started
    finally:
        started.restore()
        started.run()
        started.changed = False


@pytest.fixture(scope="module")
def prometheus(measured: Stack, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Asks the stack and the exporters each second, by the configuration that `up` wrote."""
    folder = tmp_path_factory.mktemp("prometheus")
    ports = {name: free_port() for name in ("database", "machine", "prometheus")}
    config = yaml.safe_load((measured.root / "state" / "metrics" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    jobs = []
    for job in config["scrape_configs"]:
        if job["job_name"] in ports:
            job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
        if job["job_name"] != "gpu":
            jobs.append(job)
    config["scrape_configs"] = jobs
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    secret = measured.root / "secrets" / "POSTGRES_PASSWORD"
    database = {
        "DATA_SOURCE_URI": f"127.0.0.1:{measured.database_port}/litellm?sslmode=disable",
        "DATA_SOURCE_USER": "llmproxy",
        "DATA_SOURCE_PASS_FILE": str(secret),
    }
    commands = {
        "postgres-exporter": ["--collector.stat_user_tables", f"--web.listen-address=127.0.0.1:{ports['database']}"],
        # Where tests run, the only disk may be of a kind that is left out as a rule.
        "node-exporter": [
            f"--web.listen-address=127.0.0.1:{ports['machine']}",
            "--collector.filesystem.fs-types-exclude=^$",
        ],
        "": [
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
        ],
    }
    running = []
    try:
        for name, arguments in commands.items():
            program = programs / f"prometheus{'-' if name else ''}{name}"
            with (folder / f"{program.name}.log").open("w") as log:
                argv = [str(program), *arguments]
                running.append(subprocess.Popen(argv, env={**os.environ, **database}, stdout=log, stderr=log))
        made = Prometheus(ports["prometheus"])

        def all_up() -> bool:
            try:
                return made.ask("up") == [1.0] * len(jobs)
            except OSError:
                return False

        wait_for(all_up, f"all {len(jobs)} jobs to be up")
        yield made
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(20)


@dataclass(frozen=True)
class Load:
    """What was sent.

    Attributes:
        token: what usage records call the key.
        answers: how many, by status.
    """

    token: str
    answers: dict[str, int]


@pytest.fixture(scope="module")
def load(measured: Stack, prometheus: Prometheus) -> Iterator[Load]:
    """What a client with a key of its own has sent."""
    master = measured.secret("LITELLM_MASTER_KEY")
    made = measured.call("/key/generate", {"key_alias": ALIAS, "max_parallel_requests": 2}, key=master)[1]
    key = made["key"]
    seen: dict[str, int] = {}

    def send(route: str, body: dict[str, Any], stream: bool, key: str = key) -> None:
        status = measured.call(route, {**body, "model": "smollm2-135m", "stream": stream}, key=key)[0]
        seen[str(status)] = seen.get(str(status), 0) + 1

    for route, body in ROUTES.items():
        send(route, body, stream=False)
    time.sleep(2)  # what was there before counts from here
    for stream in (False, True):
        for route, body in ROUTES.items():
            send(route, body, stream)
    # LiteLLM's ordinary way, as it knows how to repeat a request and the engine does not.
    send("/v1/chat/completions", {**ROUTES["/v1/chat/completions"], "num_retries": 1}, stream=False)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        long = {**ROUTES["/v1/completions"], "max_tokens": 60, "ignore_eos": True}
        list(pool.map(lambda _: send("/v1/completions", long, stream=True), range(12)))
    send("/v1/completions", ROUTES["/v1/completions"], stream=False, key="sk-nobodys-key")
    assert {"200", "429", "401"} == set(seen)
    yield Load(made["token"], seen)
    measured.call("/key/delete", {"keys": [key]}, key=master)


def test_every_request_is_counted_with_its_status(prometheus: Prometheus, load: Load) -> None:
    """Those that were passed through to the engine as they were, and those that LiteLLM built anew."""

    def counted() -> dict[str, int]:
        query = f'sum by (status_code) ({REQUESTS}{{api_key_alias="{ALIAS}"}})'
        found = prometheus.get("/api/v1/query", query=query)["result"]
        return {entry["metric"]["status_code"]: int(entry["value"][1]) for entry in found}

    expected = {status: count for status, count in load.answers.items() if status != "401"}
    wait_for(lambda: counted() == expected, f"{expected} to be counted")
    for route in ROUTES:
        assert prometheus.value(f'sum({REQUESTS}{{api_key_alias="{ALIAS}",route="{route}",status_code="200"}})') >= 3, route
    # Without a key that anybody has.
    assert prometheus.value(f'sum({REQUESTS}{{api_key_alias="None",status_code="401"}})') >= 1


def test_tokens_are_the_engines_own_count(measured: Stack, prometheus: Prometheus, load: Load) -> None:
    def recorded() -> tuple[int, int, int]:
        with measured.database() as cursor:
            cursor.execute(
                'SELECT count(*), sum(prompt_tokens), sum(completion_tokens) FROM "LiteLLM_SpendLogs" '
                "WHERE api_key = %s AND status = 'success'",
                (load.token,),
            )
            rows, read, wrote = cursor.fetchone()
        return int(rows), int(read or 0), int(wrote or 0)

    wait_for(lambda: recorded()[0] == load.answers["200"], "usage to be written")
    names = ("litellm_input_tokens_metric_total", "litellm_output_tokens_metric_total")
    shown = tuple(int(prometheus.value(f'sum({name}{{api_key_alias="{ALIAS}"}})')) for name in names)
    assert shown == recorded()[1:]
    assert min(shown) > 0


def asked() -> dict[str, tuple[str, str]]:
    """Place of each expression -> the expression and its legend."""
    found = {}
    for query, panel in dashboards.expressions().items():
        if not panel.needs:
            text = query.replace("$__rate_interval", "1m").replace("$__range", "1m")
            found[f"{panel.title}: {query}"] = (text, panel.queries[query])
    return found | {name: (text, "") for name, text in prometheus_check.alerts(METRICS / "rules.yml").items()}


def test_everything_that_is_shown_or_watched_has_data(prometheus: Prometheus, load: Load) -> None:
    assert load.answers
    left: dict[str, list[str]] = {}

    def none_missing() -> bool:
        left.clear()
        for place, (text, legend) in asked().items():
            gone = prometheus_check.missing(text, prometheus.ask, legend)
            if gone:
                left[place] = gone
        return not left

    began = time.monotonic()
    while not none_missing() and time.monotonic() - began < PATIENCE:
        time.sleep(1)  # a scrape or two may still be to come
    assert left == {}
    # The check can fail: the same with a name that nothing has.
    assert prometheus_check.missing("rate(vllm:num_requests_departed[1m]) > 0", prometheus.ask)
    firing = prometheus.get("/api/v1/rules")["groups"][0]["rules"]
    assert [rule["health"] for rule in firing] == ["ok"] * len(prometheus_check.alerts(METRICS / "rules.yml"))


def test_the_gateways_metrics_have_few_series(measured: Stack) -> None:
    """Neither clients' addresses nor programs, nor names that somebody makes up."""
    key = measured.secret("METRICS_API_KEY")
    for name in ("claude-made-up-1", "made-up-2"):
        measured.call("/v1/messages", {**ROUTES["/v1/messages"], "model": name})
    status, text = measured.call("/metrics/", key=key)
    assert status == 200
    for nothing in ("made-up", "127.0.0.1", "user_agent", "hashed_api_key", "end_user"):
        assert nothing not in text, nothing
    assert len(str(text).splitlines()) < 500


def test_only_the_key_for_metrics_reads_them_and_it_does_nothing_else(measured: Stack) -> None:
    key = measured.secret("METRICS_API_KEY")
    for other in ("sk-FAKE", "sk-nobodys-key", ""):
        assert measured.call("/metrics/", key=other)[0] in (401, 403), other
    for path, body in (("/v1/models", None), ("/key/info", None), ("/v1/chat/completions", ROUTES["/v1/chat/completions"])):
        assert measured.call(path, body, key=key)[0] in (401, 403), path
    written = {**measured.written(), "prometheus.yml": (measured.root / "state/metrics/prometheus.yml").read_text()}
    assert [place for place, text in written.items() if key in text] == []


def test_off_they_are_gone(measured: Stack) -> None:
    before = measured.pids()
    measured.run(METRICS="false")
    after = measured.pids()
    assert {name for name in before if before[name] != after[name]} == {"gateway"}
    assert measured.call("/metrics/", key=measured.secret("LITELLM_MASTER_KEY"))[0] == 404
