# shellcheck shell=bash
# The Python that has what scripts/stack imports.

# stack_python REPOSITORY: prints $STACK_PYTHON, else that of ./runMe.sh if it has been installed, else python3.
stack_python() {
  local stamp
  if [[ -n ${STACK_PYTHON:-} ]]; then
    echo "$STACK_PYTHON"
    return
  fi
  for stamp in "${ENVS_DIR:-$1/.state/envs}"/cli-*/.complete; do
    if [[ -e $stamp ]]; then
      echo "${stamp%/.complete}/bin/python"
      return
    fi
  done
  echo python3
}
