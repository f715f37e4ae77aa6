"""Releases: what `up` accepted, kept as it was, so that a restart never meets a half-done edit and any can come back.

`state/releases/NNNN/` holds the inputs (vars.env, vars.local.env with the caller's settings, overrides, the model's
fragment, the template) and `release.json` what came of them. The link `current` names the one that runs; the engine's
entry reads its inputs through it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stack import plan, settings, sources, yaml_source
from stack.errors import ConfigError, Problem, StackError
from stack.files import write_atomic

RECORD, CURRENT = "release.json", "current"
# Failed and outdated ones included.
KEEP = 30
PENDING, GOOD, FAILED = "pending", "good", "failed"


@dataclass(frozen=True)
class Release:
    """One accepted configuration and what became of it.

    Attributes:
        number: counts from 1.
        folder: its inputs.
        model: name of the served model.
        runtime: docker or native.
        created: when it was accepted, UTC, ISO 8601.
        state: pending, good (it was ready) or failed.
        inputs: a digest of the inputs.
        repeats: number of the release it brings back, or 0.
        seconds: from accepted to ready.
        reason: why it failed.
        revision: the commit of the model's repository that was served, if known.
        images: docker: part -> {name, id, digests}; digests: what registries call it, if it came from one.
        values: every resolved value and the engine's command, for showing and comparing.
    """

    number: int
    folder: Path
    model: str
    runtime: str
    created: str
    state: str = PENDING
    inputs: str = ""
    repeats: int = 0
    seconds: float = 0.0
    reason: str = ""
    revision: str = ""
    images: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    def plan(self, model_path: str = "", overrides: Iterable[str] = ()) -> plan.Plan:
        """Plan from the inputs alone.

        Args:
            model_path: a local folder with the weights, or empty.
            overrides: more `KEY=VALUE`, above everything.
        """
        return plan.make(self.folder, {"STACK_MODEL_PATH": model_path}, list(overrides), self.model, accepted=True)


class Releases:
    """All releases of one state folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Release]:
        """Oldest first; what cannot be read is left out."""
        found = [self._read(self.folder / name) for name in sorted(self._names(), key=int)]
        return [release for release in found if release]

    def current(self) -> Release | None:
        """The one that was last started."""
        try:
            return self._read(self.folder / (self.folder / CURRENT).readlink())
        except OSError:
            return None

    def ran(self) -> Release | None:
        """The one to go back to: the current one, or if that never was ready, the newest good one."""
        current = self.current()
        if current and current.state == GOOD:
            return current
        return next((one for one in reversed(self.all()) if one.state == GOOD), None)

    def find(self, number: int) -> Release:
        """A release by number.

        Raises:
            ConfigError: there is no such one, or it never was ready.
        """
        known = self.all()
        for release in known:
            if release.number == number and release.state == GOOD:
                return release
        good = ", ".join(str(release.number) for release in known if release.state == GOOD)
        raise ConfigError(Problem("rollback", f"no known-good release {number}", f"there are: {good or 'none yet'}"))

    def before(self, release: Release | None) -> Release:
        """The newest known-good release that differs from `release`.

        Raises:
            ConfigError: there is none.
        """
        for one in reversed(self.all()):
            if one.state == GOOD and (release is None or (one.number < release.number and one.inputs != release.inputs)):
                return one
        raise ConfigError(Problem("rollback", "no earlier known-good release", "see them: ./runMe.sh releases"))

    def propose(
        self, root: Path, environ: Mapping[str, str], overrides: list[str], made: plan.Plan, runtime: str
    ) -> Release:
        """Record a configuration as the next release; the current one again if nothing differs.

        Args:
            root: the folder of vars.env and models/.
            environ: the caller's environment; of it only settings are kept.
            overrides: `--set` texts.
            made: the plan that follows, already checked.
            runtime: docker or native.
        """
        name = f"models/{made.served.name}.yml"
        local = {**_entries(root / "vars.local.env"), **_settings_of(environ)}
        files = {
            "vars.env": yaml_source.read_text(root / "vars.env", "vars.env"),
            "vars.local.env": "".join(f"{key}={_quoted(value)}\n" for key, value in sorted(local.items())),
            sources.OVERRIDES: "".join(f"{text}\n" for text in overrides),
            plan.TEMPLATE: yaml_source.read_text(root / plan.TEMPLATE, plan.TEMPLATE),
            name: yaml_source.read_text(root / name, name),
        }
        return self._record(files, made, runtime)

    def repeat(self, release: Release, made: plan.Plan) -> Release:
        """A new release with the inputs of an earlier one, its model pinned to the revision that was served."""
        files = {
            str(path.relative_to(release.folder)): path.read_text("utf-8", "surrogateescape")
            for path in release.folder.rglob("*")
            if path.is_file() and path.name != RECORD
        }
        if release.revision and not made.served.fragment.revision:
            name = f"models/{release.model}.yml"
            files[name] = f"{files[name].rstrip()}\n\nrevision: {release.revision}  # as it was served\n"
        return self._record(files, made, release.runtime, repeats=release.number, images=release.images)

    def activate(self, release: Release) -> None:
        """Let `current` name it, in one step."""
        link = self.folder / f".{CURRENT}"
        link.unlink(missing_ok=True)
        link.symlink_to(release.folder.name)
        os.replace(link, self.folder / CURRENT)

    def mark(self, release: Release, state: str, **facts: Any) -> Release:
        """Record what became of it."""
        marked = replace(release, state=state, **facts)
        self._write(marked)
        return marked

    def discard(self, release: Release) -> None:
        """Forget one that was never started."""
        current = self.current()
        if release.state == PENDING and (current is None or current.number != release.number):
            shutil.rmtree(release.folder, ignore_errors=True)

    def _record(self, files: Mapping[str, str], made: plan.Plan, runtime: str, **more: Any) -> Release:
        inputs = plan.digest("\0".join(f"{name}\0{text}" for name, text in sorted(files.items())))
        current = self.current()
        if current and current.state == GOOD and (current.inputs, current.runtime) == (inputs, runtime):
            return current
        folder = self._next()
        number = int(folder.name)
        release = Release(number, folder, made.served.name, runtime, _now(), inputs=inputs, values=_values(made), **more)
        try:
            for name, text in files.items():
                write_atomic(folder / name, text)
            self._write(release)
        except StackError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._prune()
        return release

    def _names(self) -> list[str]:
        return [path.name for path in self.folder.glob("[0-9]*") if path.name.isdecimal()]

    def _next(self) -> Path:
        """A new folder under the next number, which is then nobody else's."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # the settings may be somebody's own
        number = max(map(int, self._names()), default=0) + 1
        while True:
            folder = self.folder / f"{number:04}"
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                number += 1

    def _write(self, release: Release) -> None:
        data = {key: value for key, value in asdict(release).items() if key != "folder"}
        write_atomic(release.folder / RECORD, json.dumps(data, indent=2, default=str) + "\n")

    def _read(self, folder: Path) -> Release | None:
        try:
            return Release(folder=folder, **json.loads((folder / RECORD).read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def _prune(self) -> None:
        """Keep the newest, the current one and the newest good one."""
        known = self.all()
        current = self.current()
        kept = {release.number for release in known[-KEEP:]} | ({current.number} if current else set())
        kept |= {release.number for release in [one for one in known if one.state == GOOD][-1:]}
        for release in known:
            if release.number not in kept:
                shutil.rmtree(release.folder, ignore_errors=True)


def changes(old: Release, new: Release) -> list[tuple[str, str, str]]:
    """What differs between two releases: (name, before, after), empty text for what is not there."""
    found = [(name, old.values.get(name, ""), new.values.get(name, "")) for name in sorted({*old.values, *new.values})]
    # What is only known once it has run differs only where both are known.
    known = [("revision", old.revision, new.revision)]
    for part in sorted({*old.images, *new.images}):
        before, after = (one.images.get(part, {}).get("id", "")[:19] for one in (old, new))
        known.append((f"image of {part}", before, after))
    found += [(name, before, after) for name, before, after in known if before and after]
    return [(name, before, after) for name, before, after in found if before != after]


def served_revision(repository: str, hub: Path, reference: str = "") -> str:
    """The commit that was served: what the hub's cache holds for a branch or tag (huggingface_hub's cache layout).

    Args:
        repository: on the hub.
        hub: the folder of the hub's cache.
        reference: the branch, tag or commit that was asked for; empty means `main`.

    Returns:
        The commit; what was asked for if the cache does not know it as a branch or tag, as it does not know commits.
    """
    with contextlib.suppress(OSError):
        refs = hub / f"models--{repository.replace('/', '--')}" / "refs"
        return (refs / (reference or "main")).read_text("utf-8").strip()
    return reference


def _values(made: plan.Plan) -> dict[str, str]:
    served = made.served
    hidden = {setting.key for setting in settings.BY_PARAM.values()}
    found = {key: str(value.value) for key, value in made.resolved.settings.items() if key not in hidden}
    found |= {f"litellm.{key}": str(value.value) for key, value in served.params.items()}
    found |= {f"env.{key}": value.value for key, value in served.env.items()}
    return found | {"command": " ".join(served.fragment.argv())}


def _entries(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    return {
        key: str(entry.value) for key, entry in sources.parse_vars(yaml_source.read_text(path, path.name), path.name).items()
    }


def _settings_of(environ: Mapping[str, str]) -> dict[str, str]:
    return {key: value.strip() for key, value in environ.items() if value.strip() and settings.is_setting(key)}


def _quoted(value: str) -> str:
    """For vars.local.env. The space, which its reader takes off, keeps a last backslash from escaping the quote."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped} '" if escaped.endswith("\\") else f"'{escaped}'"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
