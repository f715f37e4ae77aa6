#!/usr/bin/env bash
# The one command. Makes the small environment of the command-line program and hands over to it: scripts/stack.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
lock=$root/scripts/requirements/cli.txt
environments=${ENVS_DIR:-$root/.state/envs}
memory=$environments/cli.remembered
readonly CANDIDATES=(python3 python3.13 python3.12 python3.11)

main() {
  local python environment
  [[ ${1:-} == doctor ]] || check_platform
  environment=$(remembered)
  [[ ${1:-} != doctor ]] || doctor "$environment" "${@:2}"
  if [[ -z $environment ]]; then
    python=$(find_python)
    environment=$environments/cli-$(key "$python")
    [[ -e $environment/.complete ]] || install "$python" "$environment"
    remember "$environment"
  fi
  # Neither the caller's modules nor those of the folder they stand in.
  export PYTHONPATH=$root/scripts PYTHONSAFEPATH=1
  exec "$environment/bin/python" -m stack "$@"
}

# doctor ENVIRONMENT ARGUMENT...: by whatever Python there is. It installs nothing, as that may be what is wrong.
doctor() {
  local candidate
  for candidate in ${1:+"$1/bin/python"} "$environments"/cli-*/bin/python ${PYTHON:-} "${CANDIDATES[@]}"; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
      PYTHONPATH=$root/scripts PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 exec "$candidate" -m stack.doctor "${@:2}"
    fi
  done
  die "no Python was found, not even for the doctor" "install it (Debian, Ubuntu: apt install python3 python3-venv)"
}

check_platform() {
  local system
  system="$(uname -s) on $(uname -m)"
  case $system in
  "Linux on x86_64" | "Linux on aarch64") ;;
  *) die "$system is not supported" "Linux on x86_64 or aarch64 is" ;;
  esac
}

# Asking each Python for its version is most of what this script takes, above all where it is a version manager's script.
# So what they led to is remembered, for as long as the lock file and what the names stand for stay the same.
remembered() {
  local before environment
  [[ -r $memory ]] || return 0
  { read -r before && read -r environment; } <"$memory" || return 0
  # -x follows the link: a Python that has been removed is noticed here.
  if [[ -e $environment/.complete && -x $environment/bin/python && $before == "$(circumstances)" ]]; then
    echo "$environment"
  fi
}

# Where it cannot be written, the next call asks again.
remember() {
  { printf '%s\n%s\n' "$(circumstances)" "$1" >"$memory.$$" && mv -f -- "$memory.$$" "$memory"; } 2>/dev/null || true
}

circumstances() {
  local candidate
  {
    cat -- "$lock"
    printf '%s\0' "${PYTHON:-}" "${PYENV_VERSION:-}" "${PYENV_ROOT:-}"
    cat -- "${PYENV_ROOT:-${HOME:-}/.pyenv}/version" .python-version 2>/dev/null || true
    for candidate in ${PYTHON:-} "${CANDIDATES[@]}"; do
      type -P "$candidate" && stat -Lc '%i %s %Y' -- "$(type -P "$candidate")"
    done
  } | sha256sum | cut -c1-64
}

# The first Python from 3.11 to 3.13 there is.
find_python() {
  local candidate
  for candidate in ${PYTHON:-} "${CANDIDATES[@]}"; do
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
