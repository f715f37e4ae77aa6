"""scripts/metrics/prometheus.yml with this machine's addresses, for a Prometheus that runs outside. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from stack.runtime.probe import reachable
from stack.settings import Resolved

_HEAD = """\
# Written by ./runMe.sh: what a Prometheus on this machine asks. docs/metrics.md
#   prometheus --config.file THIS_FILE --storage.tsdb.path SOMEWHERE
# Of the exporters only those count that you start; take out the jobs of the others.
"""


def targets(resolved: Resolved) -> dict[str, str]:
    """Job -> address. The exporters' are their own defaults; of them, the stack starts none natively."""
    return {
        "engine": f"127.0.0.1:{resolved['ENGINE_PORT']}",
        "gateway": f"{reachable(resolved['BIND_ADDRESS'])}:{resolved['LITELLM_PORT']}",
        "database": "127.0.0.1:9187",
        "machine": "127.0.0.1:9100",
        "gpu": "127.0.0.1:9835",
        "prometheus": "127.0.0.1:9090",
    }


def config(text: str, addresses: Mapping[str, str], key_file: str, rules: str) -> str:
    """Prometheus's configuration for other addresses.

    Args:
        text: scripts/metrics/prometheus.yml.
        addresses: job -> host:port.
        key_file: where the key for the gateway's metrics is.
        rules: the file of the alerts.
    """
    found: dict[str, Any] = yaml.safe_load(text)
    found["rule_files"] = [rules]
    for job in found["scrape_configs"]:
        job["static_configs"] = [{"targets": [addresses[job["job_name"]]]}]
        if "authorization" in job:
            job["authorization"] = {"credentials_file": key_file}
    return _HEAD + str(yaml.dump(found, sort_keys=False, Dumper=_Plain))


class _Plain(yaml.SafeDumper):
    """Without anchors, as they mean nothing to the reader."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        return True
