#!/usr/bin/env bash
# Before the containers start: makes the secrets that are missing, gives the database its password, readable by
# PostgreSQL's user only, the engine the two secrets it needs: it runs as the user who may own all of them, and the chat
# page its key, if it has one, and its volume. Runs as root in a container of its own, without a network; repeating it
# changes nothing.
set -euo pipefail

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
secrets=${SECRETS_DIR:-$(dirname -- "$scripts")/secrets}
engine=${ENGINE_SECRETS_DIR:-/run/engine}
password=${PASSWORD_DIR:-/run/password}/POSTGRES_PASSWORD
chat=${CHAT_DIR:-/run/chat}
# The user that the chat page's container runs as.
readonly chat_user=65532:65532
# The user `postgres` of the official image.
readonly postgres=999:999

_main() {
  PYTHONPATH=$scripts PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 python3 -m stack.runtime.secret_files "$secrets"
  umask 077
  # Whole or not at all; tr: an editor may have put a line break at the end.
  tr -d '\r\n' <"$secrets/POSTGRES_PASSWORD" >"$password.new"
  chown "$postgres" "$password.new"
  mv -f -- "$password.new" "$password"
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
}

_main "$@"
