"""vLLM's logging as it is, which also tells the gateway what the loading engine is doing.

Named by engine_logging.json, which scripts/entrypoint.sh gives to vLLM (VLLM_LOGGING_CONFIG_PATH; vLLM's documentation:
"Logging Configuration"). It runs in each of the engine's processes. Formats, levels, colours and streams stay vLLM's
and uvicorn's own, but that uvicorn's line for each answer, which has no time, gets one.
"""

from __future__ import annotations

import contextlib
import logging
import logging.config
import os
from typing import Any

from stack import engine_phase


def vllm_formatter(**_: Any) -> logging.Formatter:
    """The formatter vLLM would have taken; a plain one if vLLM has moved it."""
    try:
        from vllm.logger import DEFAULT_LOGGING_CONFIG

        chosen = DEFAULT_LOGGING_CONFIG["handlers"]["vllm"]["formatter"]  # with or without colour
        return _formatter(DEFAULT_LOGGING_CONFIG["formatters"][chosen])
    except Exception:
        return logging.Formatter("%(levelname)s %(asctime)s [%(filename)s:%(lineno)d] %(message)s", "%m-%d %H:%M:%S")


class UvicornFormatter(logging.Formatter):
    """Uvicorn's own formatter, imported when it is first used: only one of the engine's processes serves HTTP.

    Args:
        name: its name in uvicorn's configuration.
    """

    def __init__(self, name: str, **_: Any) -> None:
        super().__init__()
        self.name = name
        self._real: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        """The line to print."""
        if self._real is None:
            try:
                from uvicorn.config import LOGGING_CONFIG

                self._real = _formatter(LOGGING_CONFIG["formatters"][self.name])
            except Exception:
                self._real = logging.Formatter("%(levelname)s: %(message)s")
        line = self._real.format(record)
        return f"{self.formatTime(record, '%m-%d %H:%M:%S')} {line}" if self.name == "access" else line


class VllmHandler(logging.StreamHandler[Any]):
    """Prints what VLLM_LOGGING_LEVEL lets through and notes the phase of every record from INFO up.

    One handler for both: vLLM looks at whether its logger has exactly one.
    """

    def __init__(self) -> None:
        level = os.environ.get("VLLM_LOGGING_LEVEL", "INFO").upper()
        self.shown = getattr(logging, level, logging.INFO)
        stream = os.environ.get("VLLM_LOGGING_STREAM", "ext://sys.stdout")
        super().__init__(logging.config.BaseConfigurator({}).convert(stream))
        # Not in the JSON file, which cannot read the environment.
        logging.getLogger("vllm").setLevel(min(self.shown, logging.INFO))

    def emit(self, record: logging.LogRecord) -> None:
        """Note and print."""
        PhaseFilter().filter(record)
        if record.levelno >= self.shown:
            super().emit(record)


class PhaseFilter(logging.Filter):
    """Lets everything through and notes the phase."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true."""
        with contextlib.suppress(Exception):  # a log line must never stop the engine
            # The text without its values: what a client sent is never taken for a phase.
            engine_phase.note(str(record.msg))
        return True


def _formatter(config: dict[str, Any]) -> logging.Formatter:
    made: logging.Formatter = logging.config.DictConfigurator({"version": 1}).configure_formatter(dict(config))
    return made
