"""The command `new`: looks a model up and writes its fragment."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from stack import fragment, plan, views, yaml_source
from stack.errors import ConfigError, Problem
from stack.files import write_atomic
from stack.new import compose, hub, traits
from stack.new.compose import Machine
from stack.runtime.install import has_gpu
from stack.runtime.layout import Layout
from stack.sources import MODEL_NAME


def run(layout: Layout, environ: Mapping[str, str], name: str, repository: str, *, as_json: bool) -> int:
    """Write models/NAME.yml for a repository or folder, and say what it is.

    Args:
        layout: where the stack lies.
        environ: the caller's settings.
        name: of the new model.
        repository: ORGANISATION/MODEL, or a path to a folder.
        as_json: print JSON.

    Raises:
        ConfigError: the name is taken or none, or the repository is not there or may not be read.
    """
    file = layout.root / "models" / f"{name}.yml"
    if not MODEL_NAME.match(name):
        raise ConfigError(Problem(f"new {name}", "is not a model name", "letters, digits, dots, dashes and underscores"))
    if file.exists() or file.is_symlink():
        raise ConfigError(Problem(f"models/{name}.yml", "is there already", "choose another name, or move it away"))
    home = Path(plan.early("HF_HOME", layout.root, environ)).expanduser()
    found = hub.read(repository, home, environ, hub.token(layout.secrets, environ))
    known = traits.of(found)
    requests = int(plan.early("MAX_PARALLEL_REQUESTS", layout.root, environ))
    machine = Machine(gpu=has_gpu(), requests=requests)
    text = compose.fragment(found, known, machine, date.today())
    shown = f"models/{name}.yml"
    # What would not be accepted is not written.
    fragment.parse(yaml_source.load(text, shown))
    write_atomic(file, text)
    notes = compose.notes(found, known, machine)
    if as_json:
        views.print_json({"model": name, "file": str(file), "source": found.source, "traits": vars(known), "notes": notes})
        return 0
    print(f"wrote {shown}: {compose.describe(found, known)}\n")
    print("\n".join(f"  {line}" if line else "" for line in text.splitlines()))
    print(f"\nlook at it, then: MODEL={name} ./runMe.sh")
    return 0
