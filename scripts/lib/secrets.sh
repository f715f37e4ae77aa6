# shellcheck shell=bash
# Secrets come from files. For NAME, in this order: $NAME_FILE, secrets/NAME, $NAME; NAME and NAME_FILE both is an error.

# load_secret NAME: exports NAME if there is a value for it. Prints nothing but names.
load_secret() {
  local name=$1 file_variable=${1}_FILE file
  file=${!file_variable:-}
  if [[ -n $file && -n ${!name:-} ]]; then
    printf 'error: %s: set together with %s\n  set one of the two\n' "$name" "$file_variable" >&2
    return 2
  fi
  if [[ -z $file && -e ${SECRETS_DIR:?}/$name ]]; then
    file=$SECRETS_DIR/$name
  fi
  [[ -n $file ]] || return 0
  if [[ ! -f $file || ! -r $file ]]; then
    printf 'error: %s: %s is not a readable file\n' "$name" "$file" >&2
    return 2
  fi
  # $(<file) drops the line break that editors put at the end.
  local value
  value=$(<"$file")
  value=${value%$'\r'}
  if [[ -z $value || $value == *$'\n'* ]]; then
    printf 'error: %s: %s has to hold one line of text\n' "$name" "$file" >&2
    return 2
  fi
  export "$name=$value"
  unset "$file_variable"
}

# load_secrets NAME...: loads each; fails after the last if any of them failed.
load_secrets() {
  local name status=0
  for name in "$@"; do
    load_secret "$name" || status=$?
  done
  return "$status"
}
