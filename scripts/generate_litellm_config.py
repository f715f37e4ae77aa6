#!/usr/bin/env python3
"""Renders generated_configs/config.yaml from vars.env, models.yml and litellm_config.template.yaml; see --help."""

import sys

from stack import generate

if __name__ == "__main__":
    sys.exit(generate.main_config())
