"""The stand-ins for upstream images that tests/docker/images/build.sh makes from the native runtime's environments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness import REPOSITORY
from stack import views
from stack.display import reporter
from stack.runtime import gateway_environment, install
from stack.runtime.layout import Layout
from stack.runtime.report import Report, Silent


def environments(report: Report) -> tuple[Path, Path, Path]:
    """Those of the native runtime for engine, gateway and database, installed if they are missing."""
    layout = Layout.from_environ({"ENVS_DIR": os.environ.get("ENVS_DIR", "")})
    database = install.ensure(layout, "database", report)
    engine = install.ensure(layout, "engine-cpu", report)
    return engine, gateway_environment.ensure(layout, database, report), database


def build(report: Report | None = None) -> dict[str, str]:
    """Build what is missing.

    Returns:
        The variables that name the images, as docker-compose.yml reads them.
    """
    engine, gateway, database = environments(report or Silent())
    script = REPOSITORY / "tests" / "docker" / "images" / "build.sh"
    cache = REPOSITORY / ".state" / "docker" / "images"
    # sys.prefix: the tests' own environment, for psycopg2.
    folders = [str(folder) for folder in (engine, gateway, database, Path(sys.prefix), cache)]
    done = subprocess.run(["bash", str(script), *folders], stdout=subprocess.PIPE, text=True, check=True, timeout=1500)
    return dict(line.split("=", 1) for line in done.stdout.split())


if __name__ == "__main__":  # beforehand, so that these minutes are seen, and are not the first test's
    with reporter(views.console()) as shown:
        if sys.argv[1:] == ["native"]:
            environments(shown)
        else:
            build(shown)
