#!/usr/bin/env python3
"""Renders generated_configs/config.yaml from vars.env, models.yml and litellm_config.template.yaml; see --help."""

import os
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent
sys.path.insert(0, str(SCRIPTS))

try:
    from stack import generate
except ModuleNotFoundError as error:
    # This Python lacks a package; the one of ./runMe.sh, if it has been installed, has them all.
    pythons = [stamp.parent / "bin" / "python" for stamp in SCRIPTS.parent.glob(".state/envs/cli-*/.complete")]
    if pythons and Path(sys.prefix) != pythons[0].parents[1]:
        os.execv(str(pythons[0]), [str(pythons[0]), *sys.argv])  # noqa: S606 (the same script)
    sys.exit(
        f"error: {sys.executable}: has no module {error.name}\n  run ./runMe.sh models once: it installs what is needed"
    )

if __name__ == "__main__":
    # gen_models_yml.sh comes in by the same door, so that both find their Python in one place.
    if sys.argv[1:2] == ["models"]:
        sys.exit(generate.main_models(sys.argv[2:]))
    sys.exit(generate.main_config())
