#!/usr/bin/env bash
# The one command. Makes the small environment of the command-line program and hands over to it: scripts/stack.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
lock=$root/scripts/requirements/cli.txt

main() {
  local python environment
  check_platform
  python=$(find_python)
  environment=${ENVS_DIR:-$root/.state/envs}/cli-$(key "$python")
  [[ -e $environment/.complete ]] || install "$python" "$environment"
  # Neither the caller's modules nor those of the folder they stand in.
  export PYTHONPATH=$root/scripts PYTHONSAFEPATH=1
  exec "$environment/bin/python" -m stack "$@"
}

check_platform() {
  local system
  system="$(uname -s) on $(uname -m)"
  case $system in
  "Linux on x86_64" | "Linux on aarch64") ;;
  *) die "$system is not supported" "Linux on x86_64 or aarch64 is" ;;
  esac
}

# The first Python from 3.11 to 3.13 there is.
find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "Python 3.11, 3.12 or 3.13 is needed and none was found" \
    "install it (Debian, Ubuntu: apt install python3 python3-venv), or name it: PYTHON=/path/to/python3.12 ./runMe.sh"
}

# An environment is named after what it is made from, so that it is made again when that changes.
key() {
  {
    "$1" -c 'import sys; print(sys.version)'
    cat "$lock"
  } | sha256sum | cut -c1-12
}

install() {
  local python=$1 environment=$2 log=$2.log
  "$python" -c 'import venv, ensurepip' 2>/dev/null ||
    die "$python has no venv module" "install it (Debian, Ubuntu: apt install python3-venv)"
  echo "preparing the command-line program (once, about 15 s)" >&2
  mkdir -p "$(dirname -- "$environment")"
  # One at a time: a second call waits here and then finds the work done.
  exec 9>"$environment.lock"
  flock 9
  if [[ ! -e $environment/.complete ]]; then
    rm -rf "$environment"
    if ! { "$python" -m venv "$environment" &&
      "$environment/bin/python" -m pip install --no-deps --require-hashes --disable-pip-version-check -r "$lock"; } \
      >"$log" 2>&1; then
      tail -n 5 "$log" >&2
      die "the command-line program could not be installed" "is the package index reachable? all of it: $log"
    fi
    touch "$environment/.complete"
  fi
  exec 9>&-
}

die() {
  printf 'error: %s\n  %s\n' "$1" "$2" >&2
  exit 1
}

main "$@"
