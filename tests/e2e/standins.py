"""The stand-ins for upstream images that tests/docker/images/build.sh makes from the native runtime's environments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness import REPOSITORY
from stack.runtime import gateway_environment, install
from stack.runtime.layout import Layout
from stack.runtime.report import Silent


def build() -> dict[str, str]:
    """Build what is missing.

    Returns:
        The variables that name the images, as docker-compose.yml reads them.
    """
    layout = Layout.from_environ({"ENVS_DIR": os.environ.get("ENVS_DIR", "")})
    report = Silent()
    database = install.ensure(layout, "database", report)
    engine = install.ensure(layout, "engine-cpu", report)
    gateway = gateway_environment.ensure(layout, database, report)
    script = REPOSITORY / "tests" / "docker" / "images" / "build.sh"
    cache = REPOSITORY / ".state" / "docker" / "images"
    # sys.prefix: the tests' own environment, for psycopg2.
    folders = [str(folder) for folder in (engine, gateway, database, Path(sys.prefix), cache)]
    done = subprocess.run(["bash", str(script), *folders], stdout=subprocess.PIPE, text=True, check=True, timeout=1500)
    return dict(line.split("=", 1) for line in done.stdout.split())
