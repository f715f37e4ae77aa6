"""Starts LiteLLM as its own command does, but without collecting garbage while it is imported.

    PYTHON_OF_LITELLM litellm_start.py --config FILE ...

Importing it makes millions of objects that all stay. Looking through them again and again is 4 of the 10 seconds of
processor time that a start takes, which a loading engine beside it needs more. Afterwards they are never looked at.
"""

import gc
import sys

if __name__ == "__main__":
    gc.disable()
    import litellm.proxy.proxy_server  # noqa: F401 (what run_server would import)
    from litellm import run_server

    gc.freeze()
    gc.enable()
    sys.argv[0] = "litellm"
    sys.exit(run_server())
