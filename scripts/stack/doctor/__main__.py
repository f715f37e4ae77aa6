"""`python -m stack.doctor [--json]`: what runMe.sh calls, with whichever Python there is, where it has no environment."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping

from stack.doctor import show
from stack.doctor.examine import broken, examine
from stack.doctor.probe import Probe
from stack.runtime.layout import Layout


def run(layout: Layout, environ: Mapping[str, str], as_json: bool) -> int:
    """Examine and print.

    Returns:
        The exit status: 1 if something is broken.
    """
    began = time.monotonic()
    findings = examine(Probe(layout, environ))
    show.show(findings, time.monotonic() - began, as_json)
    return 1 if broken(findings) else 0


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="./runMe.sh doctor", description="Examine the machine; nothing is changed.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    return run(Layout.from_environ(os.environ), os.environ, options.json)


if __name__ == "__main__":
    sys.exit(main())
