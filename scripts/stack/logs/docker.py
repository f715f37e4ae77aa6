"""The containers' logs, with the times that Docker has for each line."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping

from stack.logs.files import PAUSE
from stack.logs.lines import Line, clean, split_docker


def read(part: str, container: str, since: float, lines: int | None) -> list[Line]:
    """What a container printed; empty if there is none.

    Args:
        part: who that is.
        container: its name.
        since: seconds of the epoch; 0: from the beginning.
        lines: only the last ones; None: all.
    """
    argv = ["docker", "logs", "--timestamps", *(["--since", f"{since:.3f}"] if since else [])]
    argv += [*([] if lines is None else ["--tail", str(lines)]), container]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        return []
    return list(_lines(part, done.stdout.decode("utf-8", "replace").splitlines()))


def follow(containers: Mapping[str, str], ends: Mapping[str, float], pause: float = 1.0) -> Iterator[list[Line]]:
    """What they print from now on, a batch at a time, each in the order of time; also when they are made anew.

    Args:
        containers: part -> name.
        ends: part -> up to when it has been shown, seconds of the epoch.
        pause: seconds until a container that is gone is looked for again.
    """
    found: queue.Queue[Line] = queue.Queue()
    for part, container in containers.items():
        threading.Thread(target=_watch, args=(part, container, found, ends[part], pause), daemon=True).start()
    while True:
        batch = [found.get()]
        time.sleep(PAUSE)
        while not found.empty():
            batch.append(found.get())
        yield sorted(batch, key=lambda line: line.time)


def _watch(part: str, container: str, found: queue.Queue[Line], since: float, pause: float) -> None:
    while True:
        argv = ["docker", "logs", "--follow", "--timestamps", "--since", f"{since:.9f}", container]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            for raw in process.stdout:
                text = raw.decode("utf-8", "replace").rstrip("\n")
                moment, rest = split_docker(text)
                if moment > since:  # else it was shown before, or Docker says that there is no such container
                    since = moment
                    found.put(Line(moment, part, clean(rest)))
        time.sleep(pause)


def _lines(part: str, texts: list[str]) -> Iterator[Line]:
    last = 0.0
    for raw in texts:
        moment, text = split_docker(raw, last)
        last = max(last, moment)
        yield Line(last, part, clean(text))
