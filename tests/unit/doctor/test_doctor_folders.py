"""Disks, rights, secrets: real folders, and a user without rights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stack.doctor import disk
from stack.doctor.finding import FAULT, NONE, OK, WARNING
from stack.runtime import secret_files
from tests.unit.doctor.machines import NOBODY, Hub, Machine, as_user, says


def test_room_for_the_weights(machine: Machine, hub: Hub) -> None:
    free = os.statvfs(machine.folder).f_bavail * os.statvfs(machine.folder).f_frsize
    siblings = '{"siblings": [{"rfilename": "a.safetensors", "size": %d}]}'
    hub.answers["/api/models/org/m"] = (200, {}, siblings % (free * 2))
    says(machine.find("weights folder"), FAULT, "are needed (for org/m)", cure="HF_HOME")
    hub.answers["/api/models/org/m"] = (200, {}, siblings % 1000)
    says(machine.find("weights folder"), OK, "free (for org/m)")


def test_room_that_is_little_or_none(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    says(machine.find("state folder"), OK, "free")
    monkeypatch.setattr(disk, "LEAST_STATE", 1 << 60)
    says(machine.find("state folder"), FAULT, "are needed", cure="STATE_DIR")
    says(machine.find("environments folder"), OK, "to install: cli, database, engine-cpu, gateway")
    monkeypatch.setattr(disk, "LEAST_INODES", 1 << 60)
    says(machine.find("environments folder"), FAULT, "inodes are left", cure="df -i")


def test_folder_that_cannot_be_written_to(machine: Machine, open_folder: Path) -> None:
    state = open_folder / "state"
    state.mkdir(mode=0o555)
    found = as_user(lambda: list(disk._folder(state, 0, "", "", "STATE_DIR", 0, False)))
    says(found, FAULT, f"{state} cannot be written to", "Permission denied", cure="STATE_DIR")
    found = as_user(lambda: list(disk._folder(state / "below", 0, "", "", "STATE_DIR", 0, False)))
    says(found, FAULT, f"{state / 'below'} cannot be made", cure="mkdir")


def test_folder_on_a_file_system_that_takes_nothing(machine: Machine) -> None:
    machine.environ["HF_HOME"] = "/proc/nothing"
    says(machine.find("weights folder"), FAULT, "/proc/nothing/hub", cure="HF_HOME")


def test_folder_that_is_none(machine: Machine) -> None:
    machine.layout.state.write_text("a file")
    says(machine.find("state folder"), FAULT, "is not a folder", cure="mv")
    machine.layout.state.unlink()
    machine.layout.state.symlink_to("/nowhere/at/all")
    says(machine.find("state folder"), FAULT, "is a link to /nowhere/at/all", cure="ls -l")


@pytest.mark.parametrize(
    ("flag", "words", "cure"), [(os.ST_RDONLY, "read-only", "findmnt"), (os.ST_NOEXEC, "noexec", "ENVS_DIR")]
)
def test_mount_options(machine: Machine, monkeypatch: pytest.MonkeyPatch, flag: int, words: str, cure: str) -> None:
    real = os.statvfs

    def statvfs(path: str) -> os.statvfs_result:
        values = list(real(path))
        values[8] |= flag
        return os.statvfs_result(values)

    monkeypatch.setattr(os, "statvfs", statvfs)
    says(machine.find("environments folder"), FAULT, words, cure=cure)


def test_docker_s_folder(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    says(machine.find("Docker's folder"), NONE, "no containers")
    machine.docker({"ServerVersion": "28.0.0", "DockerRootDir": str(machine.folder)})
    says(machine.find("Docker's folder"), OK, "to be fetched")
    monkeypatch.setattr(disk, "IMAGES", 1 << 60)
    says(machine.find("Docker's folder"), FAULT, "are needed", cure="docker system prune")


def test_secrets(machine: Machine) -> None:
    says(machine.find("secrets"), OK, "none yet")
    folder = machine.layout.secrets
    secret_files.ensure(folder)
    says(machine.find("secrets"), OK, "LITELLM_MASTER_KEY")
    (folder / "LITELLM_MASTER_KEY").chmod(0o644)
    says(machine.find("secrets"), WARNING, "LITELLM_MASTER_KEY", "other users", "644", cure="chmod 600")
    (folder / "VLLM_API_KEY").write_text("")
    says(machine.find("secrets"), FAULT, "secrets/VLLM_API_KEY is empty", cure="delete it")
    (folder / "POSTGRES_PASSWORD").unlink()
    (folder / "POSTGRES_PASSWORD").symlink_to("/nowhere")
    says(machine.find("secrets"), FAULT, "secrets/POSTGRES_PASSWORD is a link to nothing", cure="one line")
    machine.environ["ANTHROPIC_AUTH_TOKEN"] = "sk-ant-secret"
    says(machine.find("secrets"), WARNING, "ANTHROPIC_AUTH_TOKEN is set in the environment only", cure="that file")


def test_secret_that_cannot_be_read(machine: Machine, open_folder: Path) -> None:
    machine.folder = open_folder
    folder = machine.layout.secrets
    secret_files.ensure(folder)
    folder.chmod(0o755)
    (folder / "VLLM_API_KEY").chmod(0)
    machine.find("secrets")  # imports what that user may have no right to read
    found = as_user(lambda: machine.find("secrets"))
    says(found, FAULT, "secrets/VLLM_API_KEY cannot be read: Permission denied", cure="permissions")
    folder.chmod(0)
    says(as_user(lambda: machine.find("secrets")), FAULT, "cannot be entered", cure="chown")
    folder.chmod(0o755)


def test_secrets_that_containers_cannot_follow(machine: Machine) -> None:
    machine.environ.update(RUNTIME="docker", HF_TOKEN_FILE="/run/secrets/hf")
    machine.layout.secrets.mkdir()
    outside = machine.folder / "outside"
    outside.write_text("sk-0123456789")
    (machine.layout.secrets / "VLLM_API_KEY").symlink_to(outside)
    found = machine.find("secrets")
    says(found, FAULT, "VLLM_API_KEY is a link out of the folder", cure="copy")
    says(found, FAULT, "HF_TOKEN_FILE: containers see files in secrets/ only", cure="secrets/HF_TOKEN")


@pytest.mark.skipif(os.geteuid() != 0, reason="makes files of root's")
def test_files_of_root_s(machine: Machine, open_folder: Path) -> None:
    says(machine.find("owners"), NONE, "root")
    machine.folder = open_folder
    machine.layout.state.mkdir()
    os.chown(machine.layout.state, NOBODY, NOBODY)
    machine.changes["uid"] = NOBODY
    says(as_user(lambda: machine.find("owners")), OK, "nothing of root's")
    (machine.layout.state / "logs").mkdir(mode=0o755)
    says(
        as_user(lambda: machine.find("owners")),
        FAULT,
        str(machine.layout.state / "logs"),
        "belongs to root",
        cure="chown -R",
    )


def test_scripts_that_may_not_be_run(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    says(machine.find("scripts"), OK)
    (machine.folder / "scripts").mkdir()
    for name in ("gateway_hooks.py", "entrypoint.sh", "litellm_entrypoint.sh"):
        (machine.folder / "scripts" / name).touch(0o600)
    monkeypatch.setattr("stack.doctor.permissions.REPOSITORY", machine.folder)
    says(machine.find("scripts"), FAULT, "entrypoint.sh may not be run", cure="chmod +x")
    for name in ("entrypoint.sh", "litellm_entrypoint.sh"):
        (machine.folder / "scripts" / name).chmod(0o700)
    machine.environ["RUNTIME"] = "docker"
    says(machine.find("scripts"), FAULT, "readable by you alone", cure="go+rX")


def test_cache_that_may_not_be_entered(machine: Machine, open_folder: Path) -> None:
    hub = open_folder / "hf" / "hub"
    (hub / "models--org--m" / "snapshots" / "0").mkdir(parents=True)
    hub.chmod(0o700)
    machine.environ["HF_HOME"] = str(open_folder / "hf")
    machine.find("model cache")  # imports what that user may have no right to read
    machine.changes["uid"] = NOBODY
    says(as_user(lambda: machine.find("model cache")), NONE, "not in the cache")
    says(as_user(lambda: machine.find("weights folder")), FAULT, str(hub), "Permission denied", cure="HF_HOME")
    if os.geteuid() == 0:
        says(as_user(lambda: machine.find("owners")), FAULT, f"{hub} belongs to root", cure="chown")
