#!/usr/bin/env bash
# The engine's entry: secrets, generated files, then `vllm serve` in this very process, so that signals arrive.
# The same script runs in the container and in the native runtime; only the folders differ.
set -euo pipefail

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export STACK_ROOT=${STACK_ROOT:-$(dirname -- "$scripts")}
export CONFIG_DIR=${CONFIG_DIR:-$STACK_ROOT/generated_configs}
SECRETS_DIR=${SECRETS_DIR:-$STACK_ROOT/secrets}
# shellcheck source=scripts/lib/secrets.sh
source "$scripts/lib/secrets.sh"
# shellcheck source=scripts/lib/python.sh
source "$scripts/lib/python.sh"

_main() {
  load_secrets HF_TOKEN VLLM_API_KEY
  generate
  read_command
  # Without the assignments before it: somebody may have put a secret among them.
  echo "starting: ${command[*]:$(first_argument)}"
  exec env -- "${command[@]}"
}

# What was accepted at the last `up` is what runs, whatever has been edited since: its files are not made again.
generate() {
  if [[ -n ${STACK_DIGEST:-} && $(cat -- "$CONFIG_DIR/digest" 2>/dev/null) == "$STACK_DIGEST "* ]]; then
    return
  fi
  if "$scripts/gen_models_yml.sh" ${MODEL:+--model "$MODEL"} &&
    "$(stack_python "$STACK_ROOT")" "$scripts/generate_litellm_config.py"; then
    return
  fi
  last_good || exit 2
  echo "warning: the configuration is in error, see above; going on with the last good one" >&2
}

# Whether the files of an earlier start are there, complete, and for the model that is asked for.
last_good() {
  [[ -f $CONFIG_DIR/digest ]] || return 1
  read_command
  [[ -z ${MODEL:-} || ${command[0]} == "STACK_MODEL=$MODEL" ]]
}

# Environment assignments and arguments, as `env` takes them. Data, not text: no shell splits or expands them.
read_command() {
  mapfile -d '' -t command <"$CONFIG_DIR/engine.argv"
}

# Where the environment assignments end and the command begins.
first_argument() {
  local index=0
  while [[ ${command[index]} == *=* ]]; do
    index=$((index + 1))
  done
  echo "$index"
}

_main "$@"
