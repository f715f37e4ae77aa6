"""The chat page beside the API: Open WebUI, where it is asked for. Nothing waits for it and nothing ends with it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from stack.errors import Problem
from stack.plan import Plan
from stack.runtime import secret_files, services
from stack.runtime.layout import Layout
from stack.runtime.probe import reachable
from stack.runtime.spec import Service
from stack.runtime.watch import CHAT
from stack.settings import Resolved

# The one secret it is given, and needs only without the local key.
SECRETS = ("CHAT_API_KEY",)
# Seconds from the start of its process to the page; a first start also makes its database.
START_SECONDS = 180


def url(resolved: Resolved) -> str:
    """The page's address, for this machine; empty if there is none."""
    return f"http://{reachable(resolved['CHAT_ADDRESS'])}:{resolved['CHAT_PORT']}" if resolved["CHAT"] else ""


def check(resolved: Resolved, secrets: Path) -> list[Problem]:
    """That the page has a key for the gateway."""
    if not resolved["CHAT"] or resolved["LOCAL_KEY"] or os.environ.get("CHAT_API_KEY_FILE"):
        return []
    if os.path.lexists(secrets / "CHAT_API_KEY"):
        return []
    what = "is missing: with LOCAL_KEY=false the chat page needs a key of its own"
    cure = "start without CHAT, make one and put it there (docs/chat.md: Keys), then start with CHAT=true"
    return [Problem("secrets/CHAT_API_KEY", what, cure)]


def service(plan: Plan, layout: Layout, environment: Path, environ: Mapping[str, str]) -> Service:
    """The page as a process. It learns addresses and where its folders are; the rest is in its entry.

    Args:
        plan: what was decided.
        layout: folders.
        environment: where Open WebUI is installed.
        environ: the caller's environment.
    """
    resolved = plan.resolved
    # It goes nowhere but to the gateway, so no proxy.
    inherited = {key: value for key, value in services.inherit(environ).items() if not key.lower().endswith("_proxy")}
    told = {
        "CHAT_ADDRESS": resolved["CHAT_ADDRESS"],
        "CHAT_PORT": str(resolved["CHAT_PORT"]),
        "CHAT_LOGIN": str(resolved["CHAT_LOGIN"]).lower(),
        "LOCAL_KEY": str(resolved["LOCAL_KEY"]).lower(),
        "GATEWAY_URL": f"http://{reachable(resolved['BIND_ADDRESS'])}:{resolved['LITELLM_PORT']}",
        "LISTEN_ADDRESS": resolved["CHAT_ADDRESS"],
        "LISTEN_PORT": str(resolved["CHAT_PORT"]),
    }
    return Service(
        name=CHAT,
        argv=("bash", str(layout.scripts / "chat_entrypoint.sh")),
        env={
            **inherited,
            **told,
            "PATH": f"{environment / 'bin'}:{inherited.get('PATH', '/usr/bin:/bin')}",
            "CHAT_DATA": str(layout.chat),
            "SECRETS_DIR": str(layout.secrets),
            "PYTHONUNBUFFERED": "1",
            **{key: value for key, value in environ.items() if key == "CHAT_API_KEY_FILE"},
        },
        log=str(layout.log(CHAT)),
        version=" ".join(
            [
                str(environment),
                secret_files.version(layout.secrets, SECRETS),
                *(f"{key}={value}" for key, value in told.items()),
            ]
        ),
        stop_seconds=10,
        host=resolved["CHAT_ADDRESS"],
        port=resolved["CHAT_PORT"],
    )
