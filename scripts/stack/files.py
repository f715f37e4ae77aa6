"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

from stack.errors import Problem, RunError


def write_atomic(path: Path, data: str | bytes, mode: int = 0o644) -> None:
    """Write `data` beside `path`, flush it to the disk and rename it into place.

    Raises:
        RunError: the folder cannot be written to (disk full, permissions); `path` is then as it was before.
    """
    raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            if temporary:
                os.unlink(temporary)
        raise RunError(Problem(str(path), f"cannot be written: {error.strerror}", "check space and permissions")) from None
