# shellcheck shell=bash
# A Docker engine with Compose for the tests: the one that is there, or one of their own.

# docker_engine FOLDER: makes `docker` and `docker compose` work in this shell. Where nothing answers and this is root on
# Debian, installs an engine and starts it with its data in FOLDER; it ends with the shell. Fails, saying why, elsewhere.
docker_engine() {
  local folder=$1
  if docker_answers; then
    echo "the Docker engine of this machine is used"
    return
  fi
  if [[ $(id -u) != 0 ]] || ! grep -qs '^ID=debian' /etc/os-release; then
    echo "no Docker engine with Compose answers, and one is installed only by root on Debian"
    return 1
  fi
  mkdir -p "$folder/config/cli-plugins"
  export DOCKER_CONFIG=$folder/config
  install_docker "$folder" >"$folder/install.log" 2>&1 || {
    tail -n 5 "$folder/install.log"
    echo "a Docker engine could not be installed; all of it: $folder/install.log"
    return 1
  }
  start_docker "$folder"
}

docker_answers() {
  docker info --format '{{.ServerVersion}}' >/dev/null 2>&1 && docker compose version >/dev/null 2>&1
}

install_docker() {
  local folder=$1 needed=() mirror apt
  command -v dockerd || needed+=(docker.io)
  command -v iptables || needed+=(iptables)
  command -v debootstrap || needed+=(debootstrap)
  command -v ip || needed+=(iproute2)
  [[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || needed+=(debian-archive-keyring)
  if ((${#needed[@]})); then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${needed[@]}"
  fi
  docker compose version && return
  # Debian 12 has no Compose v2; the one of Debian 13 is a single program that runs here as well.
  # shellcheck disable=SC2016 # apt's own variable
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' | head -n 1)
  mkdir -p "$folder"/apt/{lists,cache}/partial
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:?} trixie main" >"$folder/apt/trixie.list"
  apt=(apt-get -o Dir::Etc::SourceList="$folder/apt/trixie.list" -o Dir::Etc::SourceParts=-
    -o Dir::State::Lists="$folder/apt/lists" -o Dir::Cache="$folder/apt/cache" -o APT::Sandbox::User=root)
  "${apt[@]}" update
  (cd "$folder/apt" && "${apt[@]}" download docker-compose && dpkg-deb -x docker-compose_*.deb unpacked)
  cp "$folder/apt/unpacked/usr/libexec/docker/cli-plugins/docker-compose" "$DOCKER_CONFIG/cli-plugins/"
  docker compose version
}

start_docker() {
  local folder=$1 run waited=0
  # Sockets want short paths.
  run=$(mktemp -d /tmp/stack-docker.XXXXXX)
  export DOCKER_HOST=unix://$run/docker.sock
  # Debian's own, whatever other client comes first on PATH.
  dockerd --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$run/exec" --pidfile "$run/dockerd.pid" \
    >"$folder/dockerd.log" 2>&1 &
  # shellcheck disable=SC2064 # the values of now
  trap "kill $! 2>/dev/null; wait $! 2>/dev/null; rm -rf '$run'" EXIT
  until docker_answers; do
    if ! kill -0 $! 2>/dev/null || ((++waited > 60)); then
      tail -n 5 "$folder/dockerd.log"
      echo "dockerd does not run here; all of it: $folder/dockerd.log"
      return 1
    fi
    sleep 0.5
  done
  remove_stack
  echo "a Docker engine of the tests' own runs: $(docker info --format '{{.ServerVersion}}, {{.Driver}}')"
}

# What tests left that were killed.
remove_stack() {
  local ours=label=com.docker.compose.project=vllm-multi-model
  docker ps -aq --filter "$ours" | xargs -r docker rm --force >/dev/null
  docker volume ls -q --filter "$ours" | xargs -r docker volume rm >/dev/null
}
