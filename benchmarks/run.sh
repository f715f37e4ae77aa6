#!/usr/bin/env bash
# What the gateway alone can carry on this machine. --help says more; README.md says what is measured.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/lib/python.sh
source "$root/scripts/lib/python.sh"

# Makes the command-line program's environment if it is not there; this runs in it.
"$root/runMe.sh" models >/dev/null
python=$(stack_python "$root")
export PYTHONPATH=$root:$root/scripts PYTHONSAFEPATH=1
exec "$python" -m benchmarks "$@"
