#!/usr/bin/env bash
# What `./runMe.sh test` runs. Without arguments everything; else only the named parts, in this order:
#   lint    formatters, linters, types
#   unit    our own code
#   bridge  the stand-in for Prisma's query engine, against a real PostgreSQL
#   e2e     the whole stack, native: real vLLM, LiteLLM and PostgreSQL
#   docker  the same and more, as containers on a real Docker engine
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
export PYTHONPATH=scripts
readonly PARTS=(lint unit bridge e2e docker)

main() {
  if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    return
  fi
  local part
  for part in "$@"; do
    [[ " ${PARTS[*]} " == *" $part "* ]] || {
      echo "error: $part: no such part of the tests; there are: ${PARTS[*]}" >&2
      return 2
    }
  done
  for part in "${PARTS[@]}"; do
    if [[ $# -eq 0 || " $* " == *" $part "* ]]; then
      printf '\n== %s\n' "$part"
      "run_$part"
    fi
  done
}

run_lint() {
  local scripts
  mapfile -t scripts < <(git ls-files '*.sh' .ci/run scripts/prisma-bridge/query-engine)
  ruff format --check .
  ruff check .
  mypy
  shfmt -d -i 2 "${scripts[@]}"
  shellcheck -x "${scripts[@]}"
  hadolint Dockerfile
}

run_unit() { python -m pytest -q tests/unit; }
run_bridge() { python -m pytest -q tests/bridge; }
run_e2e() { python -m pytest -q tests/e2e; }

run_docker() {
  source tests/docker/engine.sh
  if ! docker_engine "$PWD/.state/docker"; then
    echo "the docker part is left out"
    return
  fi
  python -m pytest -q tests/e2e --runtime docker
}

main "$@"
