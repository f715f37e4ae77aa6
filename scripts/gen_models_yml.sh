#!/usr/bin/env bash
# Checks the fragment of the selected model and writes generated_configs/models.yml.
# usage: gen_models_yml.sh [--model NAME] [--root DIR] [--output DIR] [--set KEY=VALUE]; see --help
set -euo pipefail

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$scripts${PYTHONPATH:+:$PYTHONPATH}"
exec "${STACK_PYTHON:-python3}" -c 'import sys; from stack import generate; sys.exit(generate.main_models())' "$@"
