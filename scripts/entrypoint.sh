#!/usr/bin/env bash
# The engine's entry: secrets, generated files, then `vllm serve` in this very process, so that signals arrive.
# usage: entrypoint.sh            all of it
#        entrypoint.sh generate   only the generated files, anew
# The same script runs in the container and in the native runtime; only the folders differ.
set -euo pipefail

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$scripts")
# What `./runMe.sh` last accepted, where there is such a thing; else what is mounted.
[[ -n ${STACK_ROOT:-} || ! -d $root/releases/current ]] || STACK_ROOT=$root/releases/current
export STACK_ROOT=${STACK_ROOT:-$root}
export CONFIG_DIR=${CONFIG_DIR:-$root/generated_configs}
SECRETS_DIR=${SECRETS_DIR:-$root/secrets}
# shellcheck source=scripts/lib/secrets.sh
source "$scripts/lib/secrets.sh"
# shellcheck source=scripts/lib/python.sh
source "$scripts/lib/python.sh"

_main() {
  if [[ ${1:-} == generate ]]; then
    STACK_DIGEST='' generate
    return
  fi
  begin_phases
  load_secrets HF_TOKEN VLLM_API_KEY
  if in_container; then : "${VLLM_API_KEY:?secrets/VLLM_API_KEY is missing; docker compose up makes it}"; fi
  generate
  read_command
  report_phases
  keep_compiled
  keep_connections
  leave_hub_alone
  # Without the assignments before it: somebody may have put a secret among them.
  echo "starting: ${command[*]:$(first_argument)}"
  drop_privileges
  exec "${as_user[@]}" env -- "${command[@]}"
}

# In a container: become who owns the weights' cache, and give the other caches to that user.
as_user=()
drop_privileges() {
  local user=${ENGINE_USER:-}
  in_container && [[ $(id -u) == 0 ]] || return 0
  [[ $user != auto ]] || user=$(stat -c %u:%g -- "$HOME/.cache/huggingface")
  find "$HOME" -path "$HOME/.cache/huggingface" -prune -o ! -uid "${user%:*}" -exec chown -h "$user" {} +
  chown -- "$user" "$CONFIG_DIR/phase" # its folder is sticky: only the owner may replace it
  # Group 0: what vLLM's image lets users of any number write to.
  as_user=(setpriv "--reuid=${user%:*}" "--regid=${user#*:}" --groups=0 --bounding-set=-all --inh-caps=-all --)
  export USER=vllm LOGNAME=vllm # the number may have no name here, and PyTorch asks for one
}

in_container() { [[ -n ${ENGINE_USER:-} ]]; }

# What the engine is doing, for clients that ask too early: stack/engine_phase.py reads and writes it from here on.
begin_phases() {
  mkdir -p -- "$CONFIG_DIR"
  # How long its steps took last time, for the same clients.
  rm -f -- "$CONFIG_DIR/usual"
  [[ ! -f $STACK_ROOT/usual ]] || cp -- "$STACK_ROOT/usual" "$CONFIG_DIR/usual"
  printf '%s starting Python and vLLM\n' "$EPOCHSECONDS" >"$CONFIG_DIR/.phase"
  mv -f -- "$CONFIG_DIR/.phase" "$CONFIG_DIR/phase"
}

# vLLM reports its phases by its log, unless the log is set up otherwise: by a variable, or by an option that a logging
# configuration of ours would override.
report_phases() {
  local word
  for word in "${command[@]}" "VLLM_LOGGING_CONFIG_PATH=${VLLM_LOGGING_CONFIG_PATH:-}" \
    "VLLM_CONFIGURE_LOGGING=${VLLM_CONFIGURE_LOGGING:-}"; do
    case $word in
    VLLM_LOGGING_CONFIG_PATH=?* | VLLM_CONFIGURE_LOGGING=?* | PYTHONPATH=* | --config | --config=* | \
      --log[-_]level* | --log[-_]config* | --logging[-_]config* | --disable[-_]access[-_]log[-_]for*)
      printf '%s loading the model\n' "$EPOCHSECONDS" >"$CONFIG_DIR/phase"
      return
      ;;
    esac
  done
  export VLLM_LOGGING_CONFIG_PATH=$scripts/engine_logging.json PYTHONPATH=$scripts${PYTHONPATH:+:$PYTHONPATH}
}

# vLLM keeps its own compiled graphs in its cache; what else torch.compile makes would go to /tmp and be lost.
keep_compiled() {
  local caches=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
  [[ -z $caches ]] || export TORCHINDUCTOR_CACHE_DIR=${TORCHINDUCTOR_CACHE_DIR:-$caches/torchinductor}
}

# vLLM closes a connection that was idle for 5 s, the gateway keeps it for 15 (120 in some versions of LiteLLM): a request
# sent in the moment of the closing would be lost.
keep_connections() {
  export VLLM_HTTP_TIMEOUT_KEEP_ALIVE=${VLLM_HTTP_TIMEOUT_KEEP_ALIVE:-150}
}

# Where the hub cannot be reached, vLLM would ask it for two minutes and give up, whatever its cache has.
leave_hub_alone() {
  local word home='' first
  first=$(first_argument)
  for word in "${command[@]:0:first}"; do
    [[ $word != HF_HOME=* ]] || home=${word#HF_HOME=}
  done
  if PYTHONPATH=$scripts "$(stack_python "$STACK_ROOT")" -m stack.hub_cache "${command[first + 2]}" "$home"; then
    echo "the hub cannot be reached; serving what its cache has"
    export HF_HUB_OFFLINE=1
  fi
}

# What was accepted at the last `up` is what runs, whatever has been edited since: its files are not made again.
generate() {
  # In a container they are made at every start: the gateway's half may have changed while the engine was away.
  if ! in_container && [[ -n ${STACK_DIGEST:-} && $(cat -- "$CONFIG_DIR/digest" 2>/dev/null) == "$STACK_DIGEST "* ]]; then
    return
  fi
  if (run_generators); then
    return
  fi
  last_good || exit 2
  echo "warning: the configuration is in error, see above; going on with the last good one" >&2
}

run_generators() {
  # A release has all settings in its files; what an image brings of VLLM_* and NCCL_* are none.
  [[ ! -f $STACK_ROOT/release.json ]] || unset "${!VLLM_@}" "${!NCCL_@}"
  "$scripts/gen_models_yml.sh" ${MODEL:+--model "$MODEL"} &&
    "$(stack_python "$STACK_ROOT")" "$scripts/generate_litellm_config.py"
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
