"""What earlier starts left, ports, the stack that runs, the configuration."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from stack.doctor.finding import FAULT, NONE, OK, WARNING
from stack.runtime.processes import Identity
from stack.runtime.spec import Service, write_services
from stack.runtime.supervisor import boot_id
from tests.unit.doctor.machines import Machine, says


def old(path: Path) -> Path:
    """A file that was written long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (1e9, 1e9))
    return path


def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_ports(machine: Machine) -> None:
    port = machine.environ["LITELLM_PORT"]
    says(machine.find("ports"), OK, f"{port} is free")
    with socket.create_server(("127.0.0.1", int(port))):
        found = machine.find("ports")
    says(found, FAULT, f"LITELLM_PORT={port} is taken by", f"(pid {os.getpid()})", cure=f"kill {os.getpid()}")


def test_port_of_a_program_that_cannot_be_seen(machine: Machine) -> None:
    port = machine.environ["ENGINE_PORT"]
    machine.proc()
    with socket.create_server(("127.0.0.1", int(port))):
        says(machine.find("ports"), FAULT, f"ENGINE_PORT={port}", "another user", cure="sudo ss")


def test_port_of_a_container(machine: Machine) -> None:
    port = machine.environ["LITELLM_PORT"]
    with socket.create_server(("127.0.0.1", int(port))) as server:
        inode = os.fstat(server.fileno()).st_ino
        line = f"  0: 0100007F:{int(port):04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {inode} 1\n"
        machine.proc(net__tcp="  sl  local_address\n" + line, **{"321__cmdline": "/usr/bin/docker-proxy\0-proto\0tcp\0"})
        (machine.folder / "proc/321/fd").mkdir()
        (machine.folder / "proc/321/fd/4").symlink_to(f"socket:[{inode}]")
        says(machine.find("ports"), FAULT, "container of another stack (pid 321", cure=f"publish={port}")


def test_chat_port_counts_when_there_is_a_page(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        machine.environ["CHAT_PORT"] = str(port)
        says(machine.find("ports"), OK)
        machine.environ["CHAT"] = "true"
        says(machine.find("ports"), FAULT, f"CHAT_PORT={port}", cure="CHAT_PORT=")


def test_address_this_machine_does_not_have(machine: Machine) -> None:
    machine.environ.update(BIND_ADDRESS="192.0.2.1", LOCAL_KEY="false")
    says(machine.find("ports"), FAULT, "192.0.2.1", "assign", cure="ip addr")


def running(machine: Machine, pid: int) -> Identity:
    """A native stack whose engine is a process of this machine."""
    run = machine.layout.run
    run.mkdir(parents=True)
    identity = Identity.of(pid)
    assert identity is not None
    names = ("database", "engine", "gateway")
    ports = [int(machine.environ[key]) for key in ("POSTGRES_PORT", "ENGINE_PORT", "LITELLM_PORT")]
    write_services(
        run / "services.json", [Service(name, ("x",), {}, "log", port=port) for name, port in zip(names, ports, strict=True)]
    )
    record = {"pid": 0, "start": 0, "since": 0.0, "restarts": 0, "digest": "", "last_exit": "exited with 1"}
    services = dict.fromkeys(names, record)
    services["gateway"] = {**record, "pid": identity.pid, "start": identity.start, "since": time.time() - 5}
    services["engine"] = {**record, "restarts": 7}
    (run / "status.json").write_text(json.dumps({"boot": boot_id(), "services": services}))
    return identity


def test_running_stack(machine: Machine) -> None:
    says(machine.find("running stack"), NONE, "nothing runs")
    identity = running(machine, os.getpid())
    identity.write(machine.layout.run / "supervisor.pid")
    found = machine.find("running stack")
    says(found, FAULT, "engine is restarting: exited with 1, ended 7 times", cure="./runMe.sh logs engine")
    says(found, WARNING, "gateway is starting", cure="./runMe.sh logs gateway")
    says(found, FAULT, "the guard is gone", cure="./runMe.sh starts it again")


def test_ports_of_our_own_stack_are_no_fault(machine: Machine) -> None:
    running(machine, os.getpid())
    with socket.create_server(("127.0.0.1", int(machine.environ["LITELLM_PORT"]))):
        says(machine.find("ports"), OK, f"{machine.environ['LITELLM_PORT']} is this stack's")


def test_supervisor_that_is_gone(machine: Machine) -> None:
    says(machine.find("processes"), OK)
    pid = gone()
    old(machine.layout.run / "supervisor.pid").write_text(f"{pid} 12345\n")
    says(machine.find("processes"), WARNING, f"process {pid}, which is gone", cure="supervisor.pid")
    (machine.layout.run / "supervisor.pid").unlink()
    machine.layout.run.rmdir()
    running(machine, os.getpid())
    (machine.layout.run / "supervisor.pid").write_text(f"{pid} 12345\n")
    says(machine.find("processes"), NONE, "the stack runs")
    says(machine.find("running stack"), FAULT, "the supervisor is gone", cure="./runMe.sh")


def test_containers_that_keep_ending(machine: Machine) -> None:
    labels = "com.docker.compose.project=vllm-multi-model,com.docker.compose.service=vllm-node"
    machine.docker({"ServerVersion": "28.0.0"}, ps=[{"Names": "vllm-container", "State": "exited", "Labels": labels}])
    inspected = [
        {
            "Name": "/vllm-container",
            "RestartCount": 4,
            "Config": {"Env": [], "Image": ""},
            "State": {
                "Status": "exited",
                "Running": False,
                "Restarting": False,
                "OOMKilled": True,
                "ExitCode": 137,
                "Error": "",
                "StartedAt": "",
            },
        }
    ]
    (machine.folder / "inspected").write_text(json.dumps(inspected))
    script = machine.folder / "bin" / "docker"
    script.write_text(script.read_text().replace("ps) ", f"container) cat {machine.folder}/inspected ;;\nps) "))
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{machine.folder / 'bin'}:{before}"
    try:
        found = machine.find("running stack")
    finally:
        os.environ["PATH"] = before
    says(found, FAULT, "engine is stopped: killed: out of memory", "4 times", cure="./runMe.sh logs engine")


def test_half_made_environments(machine: Machine) -> None:
    half = machine.layout.environments / "engine-cpu-py3.11-0123"
    half.mkdir(parents=True)
    says(machine.find("environments"), WARNING, "engine-cpu-py3.11-0123 is half made", cure="rm -rf")
    lock = half.with_name(f"{half.name}.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        says(machine.find("environments"), OK, "is being installed")
        found = machine.find("locks")
    says(found, WARNING, str(lock), f"pid {os.getpid()}", cure=f"kill {os.getpid()}")
    says(machine.find("locks"), OK, "none")
    (half / ".complete").touch()
    (half / "bin").mkdir()
    (half / "bin" / "python").symlink_to("/usr/lib/removed/python3.11")
    says(machine.find("environments"), FAULT, "was made with is gone", cure="rm -rf")
    (half / "bin" / "python").unlink()
    (half / "bin" / "python").symlink_to(sys.executable)
    (machine.layout.weights / "m.part").mkdir(parents=True)
    says(machine.find("environments"), WARNING, "half-made model", cure="rm -rf")


def test_half_written_files(machine: Machine) -> None:
    says(machine.find("half-written files"), OK)
    left = old(machine.layout.generated / ".config.yaml.a1b2c3d4")
    says(machine.find("half-written files"), WARNING, str(left), cure=f"rm {left}")
    left.unlink()
    part = old(machine.layout.state / "postgres.part")
    says(machine.find("half-written files"), WARNING, str(part), cure="rm -rf")


def test_releases(machine: Machine) -> None:
    says(machine.find("releases"), OK, "none yet")
    folder = machine.layout.releases
    (folder / "0001").mkdir(parents=True)
    (folder / "current").symlink_to("0002")
    found = machine.find("releases")
    says(found, FAULT, "points to 0002", cure="./runMe.sh")
    says(found, WARNING, "0001 has no readable release.json", cure="rm -rf")
    (folder / "0002").mkdir()
    (folder / "0002" / "release.json").write_text('{"number": 2, ')
    says(machine.find("releases"), FAULT, "cannot be read", cure="./runMe.sh")
    (folder / "0002" / "release.json").write_text("{}")
    (folder / "0001" / "release.json").write_text("{}")
    says(machine.find("releases"), OK, "2, current: 0002")


def test_database_files(machine: Machine) -> None:
    machine.layout.postgres.mkdir(parents=True)
    says(machine.find("database files"), FAULT, "no PG_VERSION", cure="mv")
    (machine.layout.postgres / "PG_VERSION").write_text("15\n")
    says(machine.find("database files"), FAULT, "made by PostgreSQL 15", cure="dump it")
    (machine.layout.postgres / "PG_VERSION").write_text("16\n")
    says(machine.find("database files"), OK, "PostgreSQL 16")


def test_broken_fragment(machine: Machine) -> None:
    (machine.root / "models" / "m.yml").write_text("command: vllm serve org/m\nenv: [\n")
    found = machine.find("configuration")
    says(found, FAULT, "models/m.yml:")
    says(machine.find("model repository"), FAULT, "org/m is not in the cache", cure="hub")


def test_broken_settings(machine: Machine) -> None:
    with (machine.root / "vars.env").open("a") as file:
        file.write("LITELLM_TEMPRATURE=1\nnot a setting\n")
    found = machine.find("configuration")
    says(found, FAULT, "'not a setting' is not KEY=value", cure="one setting a line")
    machine.environ["MODEL"] = "nothing-like-it"
    says(machine.find("configuration"), FAULT, "no model", cure="models there are")


def test_missing_settings_and_models(machine: Machine) -> None:
    (machine.root / "vars.env").unlink()
    says(machine.find("configuration"), FAULT, "vars.env: no such file", cure="git checkout")


def test_note(machine: Machine) -> None:
    (machine.root / "models" / "m.yml").write_text("command: vllm serve org/m --max-model-len 64 --max-num-seqs 2\n")
    says(machine.find("configuration"), WARNING, "--max-num-seqs", cure="./runMe.sh config")
