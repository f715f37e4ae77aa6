"""The Hugging Face token, access to the selected model's repository, and where its weights would come from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

from stack.doctor import cache, web
from stack.doctor.finding import Check, Finding, fault, graded, none, ok, warning
from stack.doctor.knobs import Knobs, knobs
from stack.doctor.probe import Probe, read, size
from stack.runtime import secret_files

_SHAPE = re.compile(r"^hf_[A-Za-z0-9]{30,}$")
GET_TOKEN = "make a token that may read at https://huggingface.co/settings/tokens and put it into the file secrets/HF_TOKEN"  # noqa: S105 - no password


def token(probe: Probe) -> tuple[str, str]:
    """The token the engine would use and where it is from; both empty if there is none. Never shown."""
    path = secret_files.place(probe.layout.secrets, "HF_TOKEN", probe.environ)
    own = read(path)
    if own:
        return own, str(path) if "HF_TOKEN_FILE" in probe.environ else "secrets/HF_TOKEN"
    login = probe.expand(str(knobs(probe)["HF_HOME"])) / "token"
    return (read(login), str(login)) if read(login) else ("", "")


def needed(probe: Probe) -> bool:
    """Whether the selected model's weights can only come from the hub."""
    wanted = knobs(probe)
    return not wanted.local and not cache.cached(probe).whole and not (wanted.offline and wanted["WEIGHTS_SOURCE"] != "hub")


def instead(probe: Probe) -> str:
    """Where the weights come from if not from the hub; empty if they cannot."""
    if needed(probe):
        return ""
    return (
        "the weights are in the cache"
        if cache.cached(probe).whole
        else "the weights come from the fragment's offline source"
    )


def hf_token(probe: Probe) -> Iterable[Finding]:
    """Its shape, and whether the hub knows it."""
    value, place = token(probe)
    if not value:
        if probe.environ.get("HF_TOKEN"):
            yield warning(
                "HF_TOKEN is set in the environment only; the stack reads secrets/HF_TOKEN", "put it into that file"
            )
        else:
            yield ok("none; only gated and private repositories need one")
        return
    if not _SHAPE.match(value):
        yield warning(f"{place} does not look like a token, which is hf_ and at least 30 letters and digits", GET_TOKEN)
    if not web.hub(probe).status:
        yield ok(f"{place}; the hub could not be asked whether it is valid")
        return
    answer = web.ask(probe, f"{web.endpoint(probe)}/api/whoami-v2", token=value)
    if answer.status == 200:
        yield ok(f"{place}, of {_who(answer.body)}")
    elif answer.status in (401, 403):
        yield fault(f"the hub does not accept {place} ({answer.status}): expired, revoked or cut off", GET_TOKEN)
    else:
        yield ok(f"{place}; the hub did not say whether it is valid ({answer.status or answer.why})")


def _who(body: bytes) -> str:
    try:
        return str(json.loads(body)["name"])
    except (ValueError, KeyError, TypeError):
        return "an account"


def repository(probe: Probe) -> Iterable[Finding]:
    """Whether the selected model's repository may be read: asks for its config.json."""
    wanted, there = knobs(probe), cache.cached(probe)
    if not wanted.repository:
        yield none("the configuration names no model")
        return
    if wanted.local:
        yield from _folder(probe, wanted)
        return
    if there.there and there.lacks:
        shown = f"{wanted.repository} is in the cache in part: {there.lacks} is missing"
    else:
        shown = f"{wanted.repository} is {'in the cache' if there.whole else 'not in the cache'}"
    if not web.hub(probe).status:
        yield from _unasked(probe, wanted, shown)
        return
    revision = quote(wanted.revision or "main", safe="")
    url = f"{web.endpoint(probe)}/{quote(wanted.repository)}/resolve/{revision}/config.json"
    answer = web.ask(probe, url, "HEAD", token(probe)[0])
    yield from _judged(probe, wanted, answer, shown)


def _folder(probe: Probe, wanted: Knobs) -> Iterable[Finding]:
    folder = probe.expand(wanted.repository)
    if (folder / "config.json").is_file():
        yield ok(f"{folder} is a folder with a model")
    else:
        yield fault(
            f"{folder} is not a folder with a model: it has no config.json", "correct the path in the model's command"
        )


def _unasked(probe: Probe, wanted: Knobs, shown: str) -> Iterable[Finding]:
    why = "HF_HUB_OFFLINE is set" if web.offline(probe) else "the hub cannot be reached"
    if not needed(probe):
        yield ok(f"{shown}; {why}: {instead(probe)}")
        return
    cure = "unset HF_HUB_OFFLINE" if web.offline(probe) else "see `hub` above"
    cure += (
        ", put the weights there on another machine (hf download), or choose a model with an offline source: smollm2-135m"
    )
    yield fault(f"{shown}, and {why}", cure)


def _judged(probe: Probe, wanted: Knobs, answer: web.Answer, shown: str) -> Iterable[Finding]:
    """What the hub's answer means (its header X-Error-Code says more than the status)."""
    code, page = answer.headers.get("x-error-code", ""), f"https://huggingface.co/{wanted.repository}"
    has, must = bool(token(probe)[0]), needed(probe)
    if 200 <= answer.status < 400:
        yield ok(f"{shown}; the hub lets it be read")
    elif answer.status == 429:
        yield warning(f"{shown}; the hub answers 429: too many requests from here", f"wait, or: {GET_TOKEN}")
    elif code == "RevisionNotFound":
        yield graded(
            must, f"{wanted.repository} has no revision {wanted.revision or 'main'}", f"correct `revision:`; see {page}"
        )
    elif code == "EntryNotFound":
        yield graded(must, f"{wanted.repository} has no config.json", f"is it a model for vLLM? see {page}")
    elif code == "GatedRepo" or answer.status == 403:
        if has:
            yield graded(
                must, f"{wanted.repository} is gated, and the token's account has no access", f"ask for access at {page}"
            )
        else:
            yield graded(
                must, f"{wanted.repository} is gated, and there is no token", f"ask for access at {page}, then {GET_TOKEN}"
            )
    elif code == "RepoNotFound" or answer.status in (401, 404):
        what = f"{wanted.repository} does not exist, or is private or gated ({answer.status})"
        cure = f"check the name in the model's command: {page}"
        yield graded(must, what, cure if has else f"{cure}; for a gated one {GET_TOKEN}")
    else:
        yield graded(
            must, f"{shown}; the hub answers {answer.status or answer.why}", "try again: https://status.huggingface.co"
        )


def weights_size(probe: Probe) -> int:
    """Bytes of the selected model's weights: those in the cache, else what the hub says, else as recorded; 0: not known."""
    there = cache.cached(probe)
    return there.size if there.whole else probe.once("weights", lambda: _size(probe)) or knobs(probe).weights


def _size(probe: Probe) -> int:
    wanted = knobs(probe)
    if not wanted.repository or wanted.local or not web.hub(probe).status:
        return 0
    revision = f"/revision/{quote(wanted.revision, safe='')}" if wanted.revision else ""
    url = f"{web.endpoint(probe)}/api/models/{quote(wanted.repository)}{revision}?blobs=true"
    answer = web.ask(probe, url, token=token(probe)[0])
    try:
        files = {one["rfilename"]: int(one.get("size") or 0) for one in json.loads(answer.body)["siblings"]}
    except (ValueError, KeyError, TypeError):
        return 0
    # vLLM takes the safetensors of the top folder where there are any; repositories often hold other formats besides.
    for suffix in (".safetensors", ".bin"):
        total = sum(count for name, count in files.items() if name.endswith(suffix) and "/" not in name)
        if total:
            return total
    return 0


def unfinished(probe: Probe) -> Iterable[Finding]:
    """Downloads that were broken off."""
    there = cache.cached(probe)
    if there.unfinished:
        cure = "the next start goes on with them; else delete blobs/*.incomplete of that model"
        yield warning(f"{size(there.unfinished)} of unfinished downloads lie in {cache.hub(probe)}", cure)
    elif there.there and there.lacks:
        cure = "with the hub reachable the next start fetches it; else delete that model's folder and fetch it anew"
        yield warning(f"the cache lacks {there.lacks} of {knobs(probe).repository}", cure)
    elif there.whole:
        yield ok(f"{knobs(probe).repository} is whole, {size(there.size)}")
    else:
        yield none("the model is not in the cache")


CHECKS = (
    Check("Hugging Face token", hf_token),
    Check("model repository", repository),
    Check("model cache", unfinished),
)
