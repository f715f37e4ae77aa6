"""The chat page beside the API: Open WebUI, where it is asked for. Nothing waits for it and nothing ends with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from stack.errors import DisturbedError, Problem, RunError
from stack.plan import Plan
from stack.runtime import secret_files, services
from stack.runtime.layout import Layout
from stack.runtime.probe import reachable
from stack.runtime.report import Report
from stack.runtime.spec import Service
from stack.runtime.watch import CHAT, Part
from stack.settings import Resolved

# The one secret it is given, and needs only without the local key.
SECRETS = ("CHAT_API_KEY",)
# `up` gives up on a page that ended this often without having been there, or is not there after so many seconds. It is
# still tried again in the background.
GIVE_UP_AFTER, START_SECONDS = 2, 180


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


def wait(look: Callable[[], list[Part]], why: Callable[[Part], Problem], report: Report) -> None:
    """Until the page is there.

    Args:
        look: the page as it is now; nothing if there is to be none any more.
        why: why it is not there.
        report: receives progress.

    Raises:
        DisturbedError: somebody has stopped it meanwhile.
        RunError: it does not come.
    """
    started, limit = time.monotonic(), -1
    while True:
        parts = look()
        if not parts:
            raise DisturbedError(Problem(CHAT, "was stopped by another ./runMe.sh"))
        (part,) = parts
        if part.state == "ready":
            report.finished(CHAT, f"ready after {time.monotonic() - started:.1f} s")
            return
        report.phase(CHAT, part.detail)
        limit = part.restarts + GIVE_UP_AFTER if limit < 0 else limit
        if part.restarts >= limit or time.monotonic() - started > START_SECONDS:
            raise RunError(why(part))
        time.sleep(0.2)


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
