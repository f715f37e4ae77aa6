#!/usr/bin/env bash
# The chat page's entry: its key for the gateway, its settings, then Open WebUI.
# The same script runs in the container and in the native runtime; only folders and addresses differ.
set -euo pipefail

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
SECRETS_DIR=${SECRETS_DIR:?}
# shellcheck source=scripts/lib/secrets.sh
source "$scripts/lib/secrets.sh"

_main() {
  umask 077
  mkdir -p -- "${CHAT_DATA:?}"
  load_secret CHAT_API_KEY
  check_exposure
  choose_data
  use_gateway
  keep_to_itself
  spare_the_model
  page_for
  cd -- "$DATA_DIR"
  export PYTHONPATH=$scripts${PAGE_ROOT:+:$PAGE_ROOT} PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1
  echo "starting Open WebUI"
  exec python3 -m uvicorn chat_app:app --host "${LISTEN_ADDRESS:?}" --port "${LISTEN_PORT:?}" --timeout-graceful-shutdown 5
}

# Only `docker compose` by itself gets here with such a combination: ./runMe.sh refuses it before anything starts.
check_exposure() {
  case ${CHAT_LOGIN:?}@${CHAT_ADDRESS:?} in
  true@* | false@127.* | false@::1 | false@\[::1\]) ;;
  false@*)
    echo "error: CHAT_ADDRESS=$CHAT_ADDRESS would let other machines use and administer the chat page without a login" >&2
    echo "  set CHAT_LOGIN=true" >&2
    exit 2
    ;;
  *)
    echo "error: CHAT_LOGIN=$CHAT_LOGIN: expected true or false" >&2
    exit 2
    ;;
  esac
}

# Two sets of data: the one user of a page without a login is an administrator whose password everybody can look up.
choose_data() {
  if [[ $CHAT_LOGIN == true ]]; then
    DATA_DIR=$CHAT_DATA/accounts WEBUI_AUTH=true
    WEBUI_ADMIN_EMAIL=admin@localhost WEBUI_ADMIN_PASSWORD=$(kept admin-password)
    export WEBUI_ADMIN_EMAIL WEBUI_ADMIN_PASSWORD # counts when there is no account yet
  else
    DATA_DIR=$CHAT_DATA/single WEBUI_AUTH=false
  fi
  mkdir -p -- "$DATA_DIR"
  WEBUI_SECRET_KEY=$(kept session-key) # signs sessions
  STATIC_DIR=$CHAT_DATA/static         # else it writes beside its program
  mkdir -p -- "$STATIC_DIR"
  export DATA_DIR STATIC_DIR WEBUI_AUTH WEBUI_SECRET_KEY
  export ENABLE_SIGNUP=false # the administrator makes accounts
}

# kept NAME: a random text that stays the same from one start to the next.
kept() {
  local file=$CHAT_DATA/$1
  if [[ ! -s $file ]]; then
    head -c 32 /dev/urandom | base64 -w 0 | tr '+/' '-_' | tr -d '=' >"$file.new"
    mv -f -- "$file.new" "$file"
  fi
  cat -- "$file"
}

use_gateway() {
  if [[ -z ${CHAT_API_KEY:-} && ${LOCAL_KEY:-} != true ]]; then
    echo "error: secrets/CHAT_API_KEY is missing: with LOCAL_KEY=false the chat page needs a key of its own" >&2
    echo "  make one: docs/chat.md, Keys" >&2
    exit 2
  fi
  export OPENAI_API_BASE_URL=${GATEWAY_URL:?}/v1 OPENAI_API_KEY=${CHAT_API_KEY:-sk-FAKE}
  unset CHAT_API_KEY
  export ENABLE_OLLAMA_API=false DEFAULT_MODELS=vllm_agent # a chat goes on with whichever model is served
  # What is set here counts, not what was once saved from here.
  export ENABLE_PERSISTENT_CONFIG=false
}

# No downloads, no telemetry, nothing that leaves the machine.
keep_to_itself() {
  export ENV=prod OFFLINE_MODE=true HF_HUB_OFFLINE=1 DO_NOT_TRACK=true SCARF_NO_ANALYTICS=true ANONYMIZED_TELEMETRY=false
  export ENABLE_VERSION_UPDATE_CHECK=false ENABLE_COMMUNITY_SHARING=false ENABLE_OTEL=false ENABLE_WEB_SEARCH=false
  # Without embedding models: attached text goes into the prompt whole.
  export USE_SLIM_DOCKER=true BYPASS_EMBEDDING_AND_RETRIEVAL=true RAG_EMBEDDING_MODEL_AUTO_UPDATE=false
  # Tools and functions are Python that an administrator types and this process runs.
  export ENABLE_PLUGINS=false ENABLE_PIP_INSTALL_FRONTMATTER_REQUIREMENTS=false ENABLE_DIRECT_CONNECTIONS=false
  export GLOBAL_LOG_LEVEL=WARNING
}

# One request for a question: it would make three or four more, for a title, tags and what to ask next.
spare_the_model() {
  export ENABLE_TITLE_GENERATION=false ENABLE_TAGS_GENERATION=false ENABLE_FOLLOW_UP_GENERATION=false
  export ENABLE_AUTOCOMPLETE_GENERATION=false ENABLE_SEARCH_QUERY_GENERATION=false ENABLE_RETRIEVAL_QUERY_GENERATION=false
  export ENABLE_AUTOMATIONS=false ENABLE_CALENDAR=false ENABLE_MEMORIES=false
  # Its own tools would go along with every question, and vLLM refuses tools for models that are not served with them.
  export DEFAULT_MODEL_METADATA='{"capabilities": {"builtin_tools": false}}'
}

# Who may call it from a browser, and where its files are: the package has them beside its modules, the image does not.
page_for() {
  if [[ $CHAT_LOGIN == false ]]; then
    local address=$CHAT_ADDRESS
    [[ $address != *:* || $address == \[* ]] || address=[$address]
    export CORS_ALLOW_ORIGIN="http://127.0.0.1:$CHAT_PORT;http://localhost:$CHAT_PORT;http://$address:$CHAT_PORT"
  fi
  [[ -n ${PAGE_ROOT:-} ]] || export FROM_INIT_PY=true
}

_main "$@"
