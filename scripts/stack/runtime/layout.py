"""Where everything lies: one state folder, the secrets, and what is shared between stacks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Layout:
    """The folders of one stack.

    Attributes:
        root: vars.env, models/, the template.
        state: everything the stack writes, apart from secrets.
        secrets: one file a secret.
        environments: installed Python environments; several stacks may share them.
    """

    root: Path
    state: Path
    secrets: Path
    environments: Path

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Layout:
        """STACK_ROOT, STATE_DIR, SECRETS_DIR and ENVS_DIR, each with a default inside the repository."""
        root = Path(environ.get("STACK_ROOT") or REPOSITORY).resolve()
        state = Path(environ.get("STATE_DIR") or root / ".state").resolve()
        return cls(
            root=root,
            state=state,
            secrets=Path(environ.get("SECRETS_DIR") or root / "secrets").resolve(),
            environments=Path(environ.get("ENVS_DIR") or REPOSITORY / ".state" / "envs").resolve(),
        )

    @property
    def scripts(self) -> Path:
        """The repository's scripts/."""
        return REPOSITORY / "scripts"

    @property
    def requirements(self) -> Path:
        """Lock files."""
        return self.scripts / "requirements"

    @property
    def generated(self) -> Path:
        """generated_configs: what the generator writes."""
        return self.state / "generated_configs"

    @property
    def releases(self) -> Path:
        """What was accepted at each `up`; `current` in it names the one that runs."""
        return self.state / "releases"

    @property
    def logs(self) -> Path:
        """One log file a service."""
        return self.state / "logs"

    @property
    def run(self) -> Path:
        """The supervisor's files."""
        return self.state / "run"

    @property
    def timings(self) -> Path:
        """How long starts took."""
        return self.state / "timings.json"

    @property
    def lock(self) -> Path:
        """Held while a stack is being changed."""
        return self.run / "lock"

    @property
    def local_key(self) -> Path:
        """Says for which gateway process the local key has been seen to."""
        return self.run / "local_key"

    @property
    def postgres(self) -> Path:
        """The database's files."""
        return self.state / "postgres"

    @property
    def chat(self) -> Path:
        """The chat page's data."""
        return self.state / "chat"

    @property
    def metrics(self) -> Path:
        """What a Prometheus outside is told."""
        return self.state / "metrics"

    @property
    def weights(self) -> Path:
        """Weights that did not come from the hub; shared like the environments."""
        return self.environments / "weights"

    def log(self, service: str) -> Path:
        """The log file of a service."""
        return self.logs / f"{service}.log"


def file_digest(*paths: Path) -> str:
    """A short name for the contents of files."""
    sha = hashlib.sha256()
    for path in paths:
        sha.update(path.read_bytes())
    return sha.hexdigest()[:12]


def is_root() -> bool:
    """Whether this process runs as root."""
    return os.geteuid() == 0
