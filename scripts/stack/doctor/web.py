"""Questions over the network, through the proxies of the environment, each with a time limit."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from stack.doctor.probe import Probe, limited

HUB = "https://huggingface.co"
_MOST = 8 << 20  # bytes of an answer


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        status: HTTP status; 0 if nothing answered.
        headers: by lower-case name.
        body: of an answer to GET.
        why: why nothing answered.
        untrusted: whether that was the certificate.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    why: str = ""
    untrusted: bool = False


def endpoint(probe: Probe) -> str:
    """The hub's address: HF_ENDPOINT, or the usual one."""
    return (probe.environ.get("HF_ENDPOINT", "").strip() or HUB).rstrip("/")


def offline(probe: Probe) -> bool:
    """Whether the user has forbidden to ask the hub."""
    return any(
        probe.environ.get(name, "").lower() in ("1", "true", "yes", "on")
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    )


def hub(probe: Probe) -> Answer:
    """Whether the hub answers at all; asked once, and not if the user works offline."""
    if offline(probe):
        return Answer(0, why="HF_HUB_OFFLINE is set")
    return probe.once("hub", lambda: ask(probe, endpoint(probe), "HEAD"))


def proxies(probe: Probe) -> dict[str, str]:
    """Proxies by scheme, as most programs read them: the lower-case name wins."""
    found = {}
    for scheme in ("http", "https", "all", "no"):
        value = probe.environ.get(f"{scheme}_proxy") or probe.environ.get(f"{scheme.upper()}_PROXY") or ""
        if value.strip():
            found[scheme] = value.strip()
    return found


def proxy_for(probe: Probe, url: str) -> str:
    """The proxy an address is asked through; empty for none."""
    known, parts = proxies(probe), urlsplit(url)
    if urllib.request.proxy_bypass_environment(parts.netloc.rpartition("@")[2], {"no": known.get("no", "")}):  # type: ignore[attr-defined]
        return ""
    return known.get(parts.scheme) or known.get("all", "")


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirections on the same host only: a token must not go to another."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """See the base class."""
        if urlsplit(newurl)[:2] != urlsplit(req.full_url)[:2]:
            return None
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None:
            made.method = req.get_method()
        return made


def ask(probe: Probe, url: str, method: str = "GET", token: str = "") -> Answer:
    """Ask once."""
    headers = {"User-Agent": "vllm-multi-model-server"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        return limited(lambda: _ask(probe, url, method, headers), probe.seconds)
    except TimeoutError:
        return Answer(0, why=f"no answer within {probe.seconds:g} s")


def _ask(probe: Probe, url: str, method: str, headers: Mapping[str, str]) -> Answer:
    proxy = proxy_for(probe, url)
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    handlers = [urllib.request.ProxyHandler({urlsplit(url).scheme: proxy} if proxy else {}), _SameHost()]
    try:
        request = urllib.request.Request(url, headers=dict(headers), method=method)
        with urllib.request.build_opener(*handlers).open(request, timeout=probe.seconds) as answer:
            return Answer(answer.status, _lower(answer.headers), answer.read(_MOST))
    except urllib.error.HTTPError as error:
        return Answer(error.code, _lower(error.headers))
    except urllib.error.URLError as error:
        untrusted = isinstance(error.reason, ssl.SSLCertVerificationError)
        reason = getattr(error.reason, "verify_message", "") or getattr(error.reason, "strerror", "") or str(error.reason)
        return Answer(0, why=reason, untrusted=untrusted)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Answer(0, why=getattr(error, "strerror", "") or str(error) or type(error).__name__)


def _lower(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
