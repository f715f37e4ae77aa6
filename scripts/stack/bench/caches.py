"""A cold start: compile caches of its own, empty, and no page cache. The user's caches are never touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

DROP = Path("/proc/sys/vm/drop_caches")


def apart(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment with vLLM's, PyTorch's, Triton's and FlashInfer's caches below `folder`.

    Not by VLLM_CACHE_ROOT: VLLM_* is configuration, and measuring should not make a release of its own. Weights stay
    where they are, by HF_HOME.
    """
    return {
        **environ,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "FLASHINFER_WORKSPACE_BASE": str(folder / "flashinfer"),
    }


def empty(folder: Path) -> None:
    """Make `folder`, which is ours alone, anew."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def drop_page_cache(switch: Path = DROP) -> str:
    """Have the kernel forget what it has read from disk.

    Returns:
        Why it could not be done; empty if it was.
    """
    try:
        os.sync()
        switch.write_text("3\n")
    except OSError as error:
        return f"the page cache was not dropped, {switch}: {error.strerror} (needs root)"
    return ""
