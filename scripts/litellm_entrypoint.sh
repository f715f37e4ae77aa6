#!/usr/bin/env bash
# The gateway's entry: secrets, the configuration the engine's entry generates, the database, then LiteLLM.
# The same script runs in the container and in the native runtime; only folders and addresses differ.
set -euo pipefail

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$scripts")
export CONFIG_DIR=${CONFIG_DIR:-$root/generated_configs}
SECRETS_DIR=${SECRETS_DIR:-$root/secrets}
python=${STACK_PYTHON:-python3}
export PYTHONPATH=$scripts PYTHONSAFEPATH=1
# shellcheck source=scripts/lib/secrets.sh
source "$scripts/lib/secrets.sh"

_main() {
  load_secrets LITELLM_MASTER_KEY LITELLM_SALT_KEY POSTGRES_PASSWORD VLLM_API_KEY ANTHROPIC_AUTH_TOKEN METRICS_API_KEY
  check_exposure
  let_engine_load_first
  set_database_url
  wait_for "the configuration" config_is_there
  wait_for "the database" database_answers
  prepare_database
  drop_privileges
  offer_local_key &
  read_start
  # Longer than clients keep an idle connection (the OpenAI SDKs 5 s, Go 90 s): at LiteLLM's 5 s it closes some in the
  # moment a request is sent on them.
  exec "${as_user[@]}" "${start[@]}" --config "$config" --host "${LITELLM_HOST:?}" --port "${LITELLM_PORT:?}" \
    --keepalive_timeout 150
}

# Only `docker compose` by itself gets here with such a combination: ./runMe.sh refuses it before anything starts.
check_exposure() {
  case ${LOCAL_KEY:-}${BIND_ADDRESS:+@$BIND_ADDRESS} in
  true@127.* | true@::1 | true@\[::1\]) ;;
  true@*)
    echo "error: BIND_ADDRESS=$BIND_ADDRESS would offer the well-known key sk-FAKE to other machines" >&2
    echo "  set LOCAL_KEY=false and give each client a key of its own" >&2
    exit 2
    ;;
  esac
}

# Importing LiteLLM takes ten seconds of a processor that a loading engine may need. Linux weighs sessions against each
# other, so that nice(1) alone does nothing; unlike it, this can be taken back without rights: stack/local_key.py does so.
let_engine_load_first() {
  [[ $(cat -- "$CONFIG_DIR/phase" 2>/dev/null) == *" ready" ]] || { echo 19 >/proc/self/autogroup; } 2>/dev/null || true
}

# Prisma's own engine takes the password from the address only; the bridge also from PGPASSWORD, which no command line
# ever shows.
set_database_url() {
  local password=:${POSTGRES_PASSWORD:?}
  if [[ -n ${PRISMA_BRIDGE_NODE:-} ]]; then
    export PGPASSWORD=$POSTGRES_PASSWORD
    password=
  fi
  export DATABASE_URL="postgresql://llmproxy$password@${DATABASE_HOST:?}:${DATABASE_PORT:?}/litellm"
}

# wait_for WHAT CHECK: returns as soon as CHECK succeeds; says once what it waits for.
wait_for() {
  local what=$1 check=$2
  "$check" && return
  echo "waiting for $what"
  until "$check"; do
    sleep 0.2
  done
}

# Any configuration when started by hand; the accepted one when `up` said which.
config_is_there() {
  if [[ -n ${STACK_DIGEST:-} ]]; then
    grep -qsF -- "$STACK_DIGEST" "$CONFIG_DIR/digest"
  else
    [[ -f $CONFIG_DIR/digest ]]
  fi
}

database_answers() {
  (exec 3<>"/dev/tcp/$DATABASE_HOST/$DATABASE_PORT") 2>/dev/null
}

# LiteLLM's image brings its own migration tool; where that cannot run, ours applies the same files.
prepare_database() {
  if [[ -n ${MIGRATIONS_DIR:-} ]]; then
    "$python" -m stack.runtime.migrate "$MIGRATIONS_DIR"
  fi
}

# In a container: become a user without rights. LiteLLM's image has no setpriv, but it has Python.
as_user=()
config=$CONFIG_DIR/config.yaml
drop_privileges() {
  [[ -n ${GATEWAY_USER:-} && $(id -u) == 0 ]] || return 0
  # LiteLLM looks for its hooks beside its configuration, and the engine may write to that folder.
  mkdir -p /tmp/gateway
  cp -- "$config" /tmp/gateway/config.yaml
  config=/tmp/gateway/config.yaml
  as_user=("$python" -c '
import os, sys
uid, gid = map(int, sys.argv[1].split(":"))
os.setgroups([]), os.setgid(gid), os.setuid(uid)
os.execvp(sys.argv[2], sys.argv[2:])' "$GATEWAY_USER")
}

# LiteLLM's own Python and a quicker way in; its command itself where that does not begin with the name of its Python.
start=(litellm)
read_start() {
  local line
  IFS= read -r line <"$(command -v litellm)"
  line=${line#'#!'}
  [[ ${line##*/} != python* || ! -x $line ]] || start=("$line" "$scripts/litellm_start.py")
}

# sk-FAKE is an ordinary key with a limit, made or brought up to date once the gateway answers.
offer_local_key() {
  exec "${as_user[@]}" "$python" -m stack.local_key
}

_main "$@"
