"""Switches pass-through on, as a LiteLLM callback: gateway_engine_routes.py, where this LiteLLM has what that needs.

Loaded by `callbacks:` in litellm_config.template.yaml. LiteLLM does not start with a callback that cannot be imported;
another version of it than the pinned one must cost speed only.
"""

from __future__ import annotations

import logging

from litellm.integrations.custom_logger import CustomLogger

__all__ = ["engine_routes"]

try:
    from gateway_engine_routes import engine_routes
except (ImportError, AttributeError) as error:
    logging.getLogger("LiteLLM Proxy").warning(
        "requests are not passed through, which is slower: this version of LiteLLM lacks something (%s)", error
    )
    engine_routes = CustomLogger()
