#!/usr/bin/env bash
# Checks the fragment of the selected model and writes generated_configs/models.yml.
# usage: gen_models_yml.sh [--model NAME] [--root DIR] [--output DIR] [--set KEY=VALUE]; see --help
set -euo pipefail

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib/python.sh
source "$scripts/lib/python.sh"
export PYTHONPATH=$scripts PYTHONSAFEPATH=1
python=$(stack_python "$(dirname -- "$scripts")")
exec "$python" "$scripts/generate_litellm_config.py" models "$@"
