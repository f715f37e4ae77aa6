#!/usr/bin/env bash
# Before the containers start: makes the secrets that are missing, gives the database its password, readable by
# PostgreSQL's user only, the engine the two secrets it needs: it runs as the user who may own all of them, the chat page
# its key, if it has one, and its volume, and Prometheus and Grafana a secret each. Runs as root in a container of its own,
# without a network; repeating it changes nothing.
set -euo pipefail

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
secrets=${SECRETS_DIR:-$(dirname -- "$scripts")/secrets}
engine=${ENGINE_SECRETS_DIR:-/run/engine}
password=${PASSWORD_DIR:-/run/password}/POSTGRES_PASSWORD
chat=${CHAT_DIR:-/run/chat}
metrics=${METRICS_DIR:-/run/metrics}
# The user that the chat page's container runs as.
readonly chat_user=65532:65532
# The user `postgres` of the official image.
readonly postgres=999:999
# Those of the other two official images.
readonly prometheus=65534:65534 grafana=472:0

_main() {
  PYTHONPATH=$scripts PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 python3 -m stack.runtime.secret_files "$secrets"
  umask 077
  hand_over POSTGRES_PASSWORD "$postgres" "$password"
  local name
  for name in VLLM_API_KEY HF_TOKEN; do
    rm -f -- "$engine/$name"
    [[ ! -f $secrets/$name ]] || cat -- "$secrets/$name" >"$engine/$name"
  done
  mkdir -p -- "$chat/secrets"
  rm -f -- "$chat/secrets/CHAT_API_KEY"
  [[ ! -f $secrets/CHAT_API_KEY ]] || cat -- "$secrets/CHAT_API_KEY" >"$chat/secrets/CHAT_API_KEY"
  chown -R "$chat_user" "$chat/secrets"
  chown "$chat_user" "$chat"
  chmod 755 "$metrics" # two users
  hand_over METRICS_API_KEY "$prometheus" "$metrics/METRICS_API_KEY"
  hand_over GRAFANA_ADMIN_PASSWORD "$grafana" "$metrics/GRAFANA_ADMIN_PASSWORD"
}

# hand_over NAME USER FILE: a secret as a file of that user's. Whole or not at all; tr: an editor may have put a line break
# at the end.
hand_over() {
  tr -d '\r\n' <"$secrets/$1" >"$3.new"
  chown "$2" "$3.new"
  mv -f -- "$3.new" "$3"
}

_main "$@"
