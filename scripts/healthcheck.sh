#!/usr/bin/env bash
# The engine's health: its configuration is there, and it lists vllm_agent to who knows its key.
set -euo pipefail

scripts=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
SECRETS_DIR=${SECRETS_DIR:-$(dirname -- "$scripts")/secrets}
# shellcheck source=scripts/lib/secrets.sh
source "$scripts/lib/secrets.sh"

load_secrets VLLM_API_KEY
test -f "${CONFIG_DIR:-/app/generated_configs}/config.yaml"
# The key goes by the environment: an argument would show it in the process list.
python3 -I - "http://127.0.0.1:${ENGINE_PORT:-8000}/v1/models" <<'PYTHON'
import json, os, sys, urllib.request

request = urllib.request.Request(sys.argv[1], headers={"Authorization": f"Bearer {os.environ['VLLM_API_KEY']}"})
names = [model["id"] for model in json.load(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5))["data"]]
sys.exit("vllm_agent" not in names)
PYTHON
