"""Switches pass-through on, as a LiteLLM callback: gateway_engine_routes.py, where this LiteLLM has what that needs.

Loaded by `callbacks:` in litellm_config.template.yaml. LiteLLM does not start with a callback that cannot be imported;
another version of it than the pinned one must cost speed only.
"""

from __future__ import annotations

import gc
import importlib.util
import logging
import sys

from litellm.integrations.custom_logger import CustomLogger

__all__ = ["engine_routes"]


def _save_time() -> None:
    """What costs every request although it does nothing."""
    if importlib.util.find_spec("opentelemetry") is None:
        # LiteLLM 1.108 looks for these twice a request, and Python reads them from the disk each time to see them fail.
        for name in ("logger", "plumbing.context"):
            sys.modules.setdefault(f"litellm.integrations.otel.{name}", None)  # type: ignore[arg-type]
    # A million objects that stay for good: without this a full collection stops all streams for a third of a second.
    # litellm_start.py did so before the configuration was read; where plain `litellm` was started, nobody did.
    gc.freeze()


try:
    import gateway_engine_routes
    from gateway_engine_usage import engine_usage as engine_routes

    gateway_engine_routes.add()
except (ImportError, AttributeError) as error:
    logging.getLogger("LiteLLM Proxy").warning(
        "requests are not passed through, which is slower: this version of LiteLLM lacks something (%s)", error
    )
    engine_routes = CustomLogger()
_save_time()
