"""A backup as a file: a tar archive of what it is, PostgreSQL's own dump, and the dump's checksum.

    tar -xOf FILE manifest.json            what it is
    tar -xOf FILE database.dump | pg_restore -d NAME      without this program

The members are in this order, so that the file is written and read in one go, whatever its size.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from stack.errors import ConfigError, Problem, RunError

FORMAT = 1
MANIFEST, DUMP, CHECKSUM = "manifest.json", "database.dump", "database.dump.sha256"
PIECE = 1 << 20
# How a custom-format dump of pg_dump begins.
MAGIC = b"PGDMP"


@dataclass(frozen=True)
class Backup:
    """A file that has been checked.

    Attributes:
        path: the file.
        manifest: what it is of.
        offset: where the dump begins in it, bytes.
        size: the dump's length, bytes.
    """

    path: Path
    manifest: Mapping[str, Any]
    offset: int
    size: int

    def feed(self, into: BinaryIO) -> None:
        """Copy the dump."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            left = self.size
            while left:
                piece = file.read(min(PIECE, left))
                if not piece:
                    raise RunError(Problem(str(self.path), "has become shorter"))
                into.write(piece)
                left -= len(piece)


def write(path: Path, manifest: Mapping[str, Any], dump: Callable[[], BinaryIO]) -> int:
    """Write a backup that only its owner may read, whole or not at all.

    Args:
        path: the file, which is replaced.
        manifest: what it is of.
        dump: begins the dump and returns what it is read from.

    Returns:
        The file's size in bytes.

    Raises:
        RunError: it cannot be written, or `dump` raised it.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        with os.fdopen(handle, "w+b") as file:
            _member(file, MANIFEST, json.dumps({"format": FORMAT, **manifest}, indent=2).encode() + b"\n")
            digest = _stream(file, DUMP, dump())
            _member(file, CHECKSUM, f"{digest}  {DUMP}\n".encode())
            file.write(bytes(2 * tarfile.BLOCKSIZE))
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(temporary, path)
        return size
    except OSError as error:
        raise RunError(Problem(str(path), f"cannot be written: {error.strerror}", "check space and permissions")) from None
    finally:
        with contextlib.suppress(OSError):
            if temporary:
                os.unlink(temporary)


def read(path: Path) -> Backup:
    """Check a whole file.

    Raises:
        ConfigError: it is no backup, or not as it was written.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            manifest, dump, checksum = (archive.next() for _ in range(3))
            if not manifest or not dump or not checksum or (manifest.name, dump.name) != (MANIFEST, DUMP):
                raise ConfigError(_no_backup(path))
            told = json.loads(_content(archive, manifest))
            file.seek(dump.offset_data)
            digest, begin = _digest(file, dump.size)
            if _content(archive, checksum).split()[:1] != [digest.encode()] or not begin.startswith(MAGIC):
                raise ConfigError(Problem(str(path), "is damaged: the dump in it is not what was written"))
            if told["format"] != FORMAT or not isinstance(told["tables"], dict):
                raise ConfigError(Problem(str(path), f"is a backup of another kind: format {told['format']}"))
            return Backup(path, told, dump.offset_data, dump.size)
    except OSError as error:
        if error.strerror is None:  # tarfile's own
            raise ConfigError(_no_backup(path)) from None
        raise ConfigError(Problem(str(path), f"cannot be read: {error.strerror}")) from None
    except (tarfile.TarError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(_no_backup(path)) from None


def _no_backup(path: Path) -> Problem:
    return Problem(str(path), "is no backup, or not a whole one", "files that ./runMe.sh backup wrote are")


def _member(file: BinaryIO, name: str, content: bytes) -> None:
    _stream(file, name, io.BytesIO(content))


def _stream(file: BinaryIO, name: str, source: BinaryIO) -> str:
    """Add a member whose size is known only at its end; its SHA-256."""
    sha, size, start = hashlib.sha256(), 0, file.tell()
    file.write(bytes(tarfile.BLOCKSIZE))
    while piece := source.read(PIECE):
        sha.update(piece)
        size += file.write(piece)
    file.write(bytes(-size % tarfile.BLOCKSIZE))
    end = file.tell()
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, int(time.time()), 0o600
    file.seek(start)
    file.write(info.tobuf(tarfile.GNU_FORMAT))
    file.seek(end)
    return sha.hexdigest()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    if file is None or member.size > PIECE:
        raise ValueError(member.name)
    return file.read()


def _digest(file: BinaryIO, size: int) -> tuple[str, bytes]:
    """SHA-256 of the next bytes, and how they begin."""
    sha, begin = hashlib.sha256(), b""
    while size:
        piece = file.read(min(PIECE, size))
        if not piece:
            raise ValueError("too short")
        begin = begin or piece[: len(MAGIC)]
        sha.update(piece)
        size -= len(piece)
    return sha.hexdigest(), begin
