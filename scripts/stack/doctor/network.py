"""Names, proxies, the hub, the package index."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from stack.doctor import dockerfacts, environments, hub, web
from stack.doctor.finding import Check, Finding, fault, graded, none, ok, warning
from stack.doctor.probe import Probe, first_line, limited


def names(probe: Probe) -> Iterable[Finding]:
    """Whether the resolver knows the hub."""
    host = urlsplit(web.endpoint(probe)).hostname or ""
    if web.offline(probe):
        yield none("HF_HUB_OFFLINE is set")
        return
    if web.proxy_for(probe, web.endpoint(probe)):
        yield none("the proxy resolves names")
        return
    cure = "see /etc/resolv.conf, VPN and firewall: getent hosts " + host
    try:
        found = limited(lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM), probe.seconds)
    except TimeoutError:
        yield graded(hub.needed(probe), f"the resolver does not answer for {host} within {probe.seconds:g} s", cure)
    except (OSError, UnicodeError) as error:
        said = getattr(error, "strerror", "") or str(error)
        yield graded(hub.needed(probe), f"{host} cannot be resolved: {said}", cure)
    else:
        yield ok(f"{host} is {found[0][4][0]}")


def proxy(probe: Probe) -> Iterable[Finding]:
    """Proxy variables, without what one logs in with."""
    known = web.proxies(probe)
    given = {scheme: value for scheme, value in known.items() if scheme != "no"}
    if not given:
        yield none("no proxy variable is set")
        return
    found = []
    for scheme, value in given.items():
        try:
            parts = urlsplit(value if "://" in value else f"http://{value}")
            right = bool(parts.hostname) and (parts.port or True)
        except ValueError:
            right = False
        if not right:
            what = f"{scheme}_proxy={value} is not an address"
            found.append(fault(what, f"such as {scheme}_proxy=http://proxy.example:3128"))
        elif parts.scheme.startswith("socks"):
            what = f"{scheme}_proxy={value}: SOCKS needs a package that the stack's environments do not have"
            found.append(warning(what, "use an HTTP proxy"))
    for differing in (scheme for scheme in ("http", "https", "no") if _differ(probe, scheme)):
        what = f"{differing}_proxy and {differing.upper()}_PROXY differ, and programs choose differently"
        found.append(warning(what, "give both the same value"))
    if "127.0.0.1" not in known.get("no", "") and known.get("no", "") != "*" and ("http" in given or "all" in given):
        what = "no_proxy does not name 127.0.0.1: requests to the stack itself would go to the proxy"
        found.append(
            warning(what, "export no_proxy=localhost,127.0.0.1 NO_PROXY=localhost,127.0.0.1 (with what else is in it)")
        )
    yield from found or [ok(", ".join(f"{scheme}_proxy={value}" for scheme, value in known.items()))]


def _differ(probe: Probe, scheme: str) -> bool:
    pair = {probe.environ.get(f"{scheme}_proxy", ""), probe.environ.get(f"{scheme.upper()}_PROXY", "")}
    return len(pair - {""}) == 2


def reach(probe: Probe) -> Iterable[Finding]:
    """The hub, from where weights come."""
    address, answer = web.endpoint(probe), web.hub(probe)
    through = web.proxy_for(probe, address)
    way = f" through the proxy {through}" if through else ""
    shown = f"{address}{' (HF_ENDPOINT)' if probe.environ.get('HF_ENDPOINT', '').strip() else ''}{way}"
    if web.offline(probe):
        yield none("HF_HUB_OFFLINE is set")
    elif answer.status == 407:
        yield fault(f"{shown}: the proxy wants a login (407)", "https_proxy=http://USER:PASSWORD@HOST:PORT")
    elif answer.status >= 500:
        yield graded(hub.needed(probe), f"{shown} answers {answer.status}", "wait: https://status.huggingface.co")
    elif answer.status:
        yield ok(shown)
    elif answer.untrusted:
        what = f"the certificate of {shown} is not trusted: {answer.why}"
        cure = "set the clock, or have the authority of your network's gateway trusted: SSL_CERT_FILE and REQUESTS_CA_BUNDLE"
        yield graded(hub.needed(probe), what, cure)
    else:
        instead = hub.instead(probe)
        cure = "see network, firewall and https_proxy; a mirror: HF_ENDPOINT=https://..."
        yield graded(hub.needed(probe), f"{shown} cannot be reached: {answer.why}{instead and f'; {instead}'}", cure)


def package_index(probe: Probe) -> Iterable[Finding]:
    """Where pip looks, configured however it is: pip itself asks, for itself."""
    missing = environments.missing(probe)
    if not missing:
        what = (
            "the containers bring their packages"
            if dockerfacts.runtime(probe) == "docker"
            else "all environments are installed"
        )
        yield none(what)
        return
    python = environments.python(probe)
    if not python:
        yield none("there is no pip to ask with yet")
        return
    argv = [python, "-m", "pip", "index", "versions", "pip", "--disable-pip-version-check"]
    ran = probe.run(*argv, "--retries", "0", "--timeout", "3")
    needed = f"to install: {', '.join(missing)}"
    if ran.status == 0:
        yield ok(f"answers pip; {needed}")
    elif "No module named pip" in ran.err or "unknown command" in ran.err:
        yield none("there is no pip to ask with yet")
    else:
        said = ran.err if ran.late else first_line(*(line for line in ran.err.splitlines() if "rror" in line), ran.err)
        what = f"pip gets no answer from its index: {said}; {needed}"
        yield fault(
            what, "see network and https_proxy; a mirror: PIP_INDEX_URL=https://... (pip config list shows what is set)"
        )


CHECKS = (
    Check("names", names),
    Check("proxy", proxy),
    Check("hub", reach),
    Check("package index", package_index),
)
