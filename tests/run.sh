#!/usr/bin/env bash
# What `./runMe.sh test` runs. Without arguments everything; else only the named parts, in this order:
#   lint    formatters, linters, types
#   unit    our own code
#   bridge  the stand-in for Prisma's query engine, against a real PostgreSQL
#   docker  the whole stack as containers on a real Docker engine, where there is one or it can be installed
#   e2e     the whole stack, native: real vLLM, LiteLLM and PostgreSQL; without what `docker` has just done
# TEST_MINUTES: after so many, what matters least is left out, and said to be. Without it all of it is done.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
export PYTHONPATH=scripts
readonly PARTS=(lint unit bridge docker e2e) LEFT_OUT=77
did_docker=
export TESTS_UNTIL=${TEST_MINUTES:+$(($(date +%s) + TEST_MINUTES * 60))}

main() {
  if [[ ${1:-} == -h || ${1:-} == --help ]]; then
    sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
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

# Side by side, each file on one processor.
run_unit() { python -m pytest -q -n auto --dist loadfile tests/unit; }
run_bridge() { python -m pytest -q tests/bridge; }
run_e2e() { end_to_end native ${did_docker:+--not-again}; }

# In a shell of its own, with which an engine that was started for it ends.
run_docker() {
  local status=0
  (in_containers) || status=$?
  case $status in
  0) did_docker=1 ;;
  "$LEFT_OUT") echo "the docker part is left out" ;;
  *) return "$status" ;;
  esac
}

in_containers() {
  source tests/docker/engine.sh
  docker_engine "$PWD/.state/docker" || exit "$LEFT_OUT"
  end_to_end docker
}

# end_to_end RUNTIME OPTION...: a line for each test with its seconds, as some take minutes.
end_to_end() {
  PYTHONPATH=scripts:tests/e2e python -m standins "$1" &&
    python -m pytest -v -o console_output_style=times tests/e2e --runtime "$@"
}

main "$@"
