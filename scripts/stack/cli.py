"""What a person types. The only module that prints and decides the exit status."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stack import __version__, plan, views
from stack.errors import ConfigError, Problem, StackError
from stack.files import write_atomic
from stack.releases import Release, Releases
from stack.runtime import deploy
from stack.runtime.layout import Layout
from stack.runtime.watch import all_ready

DESCRIPTION = """\
One box, many models, one endpoint: serves a model from models/ with vLLM behind a LiteLLM gateway that speaks the
OpenAI and Anthropic APIs on http://127.0.0.1:4000.

  MODEL=smollm2-135m ./runMe.sh      start that model, or change to it; without MODEL: the one of vars.env
  ./runMe.sh status                  how it is
  ./runMe.sh down                    stop it; keys, usage and weights stay
"""
EPILOG = """\
Settings: --set KEY=VALUE, models/NAME.yml, environment, vars.local.env, vars.env; the first that has it wins.
Exit status: 0 it works, 1 something failed while running, 2 the configuration is wrong and nothing was started.
"""


SHOWN_PROBLEMS = 40


def main(argv: list[str] | None = None) -> int:
    """Run one command; errors are printed with place and cure, never as a traceback."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version")):
        arguments = ["up", *arguments]
    if arguments[0] == "test":
        return _test(arguments[1:])
    options = _parser().parse_args(arguments)
    environ = {**os.environ, **({"MODEL": options.model} if getattr(options, "model", "") else {})}
    try:
        return int(options.run(options, Layout.from_environ(environ), environ))
    except StackError as error:
        for problem in error.problems[:SHOWN_PROBLEMS]:
            print(problem, file=sys.stderr)
        if len(error.problems) > SHOWN_PROBLEMS:
            print(f"and {len(error.problems) - SHOWN_PROBLEMS} more like these", file=sys.stderr)
        if error.exit_status == 2:
            print("nothing was started or changed", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(f"error: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; what was started goes on: ./runMe.sh status", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="./runMe.sh", description=DESCRIPTION, epilog=EPILOG, formatter_class=raw)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Any, help_text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_text, description=help_text[0].upper() + help_text[1:] + ".")
        sub.set_defaults(run=run)
        return sub

    up = command("up", _up, "start the model, or change to it (what happens without a command)")
    config = command("config", _config, "show every resolved value and where it comes from; secrets are not shown")
    for sub in (up, config):
        sub.add_argument("--model", default="", metavar="NAME", help="the model; the same as MODEL=NAME")
        sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a value; repeatable")
    command("down", _down, "stop everything; requests under way may finish; keys, usage and weights stay")
    rollback = command("rollback", _rollback, "serve an earlier release again, as it was")
    rollback.add_argument("number", nargs="?", type=int, default=0, help="which one (default: the one before)")
    listing = command("releases", _releases, "list what was served, and what became of it")
    status = command("status", _status, "show how each part is; exit status 0 if all are ready, else 1")
    models = command("models", _models, "list the models there are")
    logs = command("logs", _logs, "show what the parts print")
    logs.add_argument(
        "part", nargs="?", choices=("engine", "gateway", "database", "chat", "supervisor"), help="only this part"
    )
    logs.add_argument("-f", "--follow", action="store_true", help="go on showing")
    logs.add_argument("-n", "--lines", type=int, default=40, help="how many lines of each (%(default)s)")
    bench = command("bench", _bench, "measure the stack that runs, through the gateway and on the engine alone")
    bench.add_argument("--startup", action="store_true", help="instead: second start against bare `vllm serve`")
    bench.add_argument("--cold", action="store_true", help="with --startup: without page cache and compile caches")
    bench.add_argument("--repeat", type=_number, metavar="N", help="with --startup: how often; medians count (1)")
    _bench_options(bench.add_argument_group("load"))
    client = command("client", _client, "show how to set up another program for the stack; without NAME, which there are")
    client.add_argument("name", nargs="?", default="", metavar="NAME", help="a client, such as openai-python or claude-code")
    client.add_argument("--write", action="store_true", help="put it into the client's own configuration file")
    client.add_argument("--key", metavar="KEY", help="a key to use instead of the local one")
    commands.add_parser("test", help="check formatting, types and behaviour; `./runMe.sh test --help` for parts of it")
    for sub in (up, rollback, listing, status, models, config, bench, client):
        sub.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _up(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    made = plan.make(layout.root, environ, options.set)
    for note in (*made.notes, *plan.ignored_environment(made)):
        print(f"note: {note}", file=sys.stderr)
    runtime = _runtime(layout, made.resolved["RUNTIME"])
    known = Releases(layout.releases)
    release = known.propose(layout.root, environ, options.set, made, runtime.name)
    return _serve(runtime, known, release, environ, options.json)


def _serve(runtime: Any, known: Releases, release: Release, environ: Mapping[str, str], as_json: bool) -> int:
    """Bring a release up, say what it changes, and what is served in the end."""
    from stack.display import reporter

    before = known.current()
    try:
        with reporter(views.console(stderr=True)) as report:
            report.note(f"serving {release.model} with the {runtime.name} runtime, release {release.number}")
            made = deploy.deploy(runtime, known, release, environ, report)
    except deploy.RolledBackError as error:
        with reporter(views.console(stderr=True)) as report:
            report.note(f"{error.served.model} is served again, release {error.served.number}; what was given up:")
            for line in views.change_lines(error.served, release):
                report.note(line)
        _start_chat(runtime, error.served.plan(), environ)
        raise
    if before and before.number != release.number:
        views.print_changes(before, release)
    views.print_ready(made, as_json=as_json)
    sys.stdout.flush()
    _start_chat(runtime, made, environ)
    return 0


def _start_chat(runtime: Any, made: plan.Plan, environ: Mapping[str, str]) -> None:
    """Bring up the chat page, if there is to be one. The API is there by now, and stays whatever becomes of the page."""
    from stack.display import reporter

    if not made.resolved["CHAT"]:
        return
    with reporter(views.console(stderr=True)) as report:
        try:
            runtime.start_chat(environ, report)
        except StackError as error:
            for problem in error.problems:
                report.note(f"the chat page is not there, the API is: {str(problem).removeprefix('error: ')}")


def _releases(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    known = Releases(layout.releases)
    views.print_releases(known.all(), known.current(), as_json=options.json)
    return 0


def _rollback(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    known = Releases(layout.releases)
    wanted = known.find(options.number) if options.number else known.before(known.current())
    made = wanted.plan()
    runtime = _runtime(layout, wanted.runtime)
    release = known.repeat(wanted, made)
    # The caller's settings do not count: the release has its own.
    return _serve(runtime, known, release, environ, options.json)


def _down(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.display import reporter

    runtime = _runtime(layout, plan.early("RUNTIME", layout.root, environ), running=True)
    with reporter(views.console(stderr=True)) as report:
        stopped = runtime.down(report)
    print("stopped; keys, usage and weights are kept" if stopped else "nothing was running")
    return 0


def _status(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    runtime = _runtime(layout, plan.early("RUNTIME", layout.root, environ), running=True)
    parts, watchers = runtime.parts(), runtime.watchers()
    views.print_status(runtime.running_model(), parts, watchers, as_json=options.json)
    return 0 if all_ready(parts) and all(watchers.values()) else 1


def _models(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    return views.print_models(layout.root, environ, as_json=options.json)


def _config(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    made = plan.make(layout.root, environ, options.set)
    views.print_config(made, as_json=options.json)
    return 0


def _logs(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    runtime = _runtime(layout, plan.early("RUNTIME", layout.root, environ), running=True)
    return int(runtime.logs(options.part or "", options.lines, options.follow))


def _bench_options(group: Any) -> None:
    group.add_argument("--concurrency", type=_numbers, metavar="N,N", help="requests under way at once (1,4,16,64)")
    group.add_argument("--requests", type=_number, metavar="N", help="requests at each (by concurrency, 8 to 64)")
    group.add_argument("--input-tokens", type=_number, metavar="N", help="length of each prompt (128)")
    group.add_argument("--output-tokens", type=_number, metavar="N", help="length of each answer (32)")
    group.add_argument("--route", choices=("chat", "completions"), help="/v1/chat/completions or /v1/completions (chat)")
    group.add_argument("--html", metavar="FILE", help="write a page with plots")
    group.add_argument("--compare", metavar="FILE", help="show the change since an earlier result, or since the `last` one")


def _number(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: not a whole number above 0")
    return int(text)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted({_number(part.strip()) for part in text.split(",")}))


def _bench(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.bench import load, page, report, startup, tool
    from stack.display import reporter

    asked = ("concurrency", "requests", "input_tokens", "output_tokens", "route")
    given = {name: getattr(options, name) for name in asked if getattr(options, name)}
    if options.startup:
        if given or options.html or options.compare:
            raise ConfigError(Problem("bench --startup", "takes no other option than --cold, --repeat and --json"))
        return startup.run(layout, environ, as_json=options.json, cold=options.cold, repeat=options.repeat or 1)
    if options.cold or options.repeat:
        raise ConfigError(Problem("bench", "--cold and --repeat are for --startup"))
    folder = layout.state / "bench"
    earlier = report.read(options.compare, folder) if options.compare else None
    if options.html and (not Path(options.html).absolute().parent.is_dir() or Path(options.html).is_dir()):
        raise ConfigError(Problem(f"--html {options.html}", "is not a file in a folder that is there"))
    runtime = _runtime(layout, plan.early("RUNTIME", layout.root, environ), running=True)
    with reporter(views.console(stderr=True)) as shown:
        result = load.run(layout, runtime, tool.Load(**given), shown)
        for line in report.differences(result, earlier) if earlier else ():
            shown.note(f"the earlier result is of something else: {line}")
    saved = report.save(result, folder)
    if options.html:
        write_atomic(Path(options.html), page.render(result, earlier))
    if options.json:
        views.print_json({**result.data(), "file": str(saved), "earlier": earlier and earlier.data()})
    else:
        report.show(result, earlier, views.console())
        print(f"saved: {saved}" + (f", {options.html}" if options.html else ""))
    return 1 if any(row.errors for row in result.rows) else 0


def _client(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.clients import show

    return show.run(layout, environ, options.name, key=options.key, wanted=options.write, as_json=options.json)


def _test(arguments: list[str]) -> int:
    """Hand over to tests/run.sh, in the environment of the linters and tests."""
    from stack.display import reporter
    from stack.runtime import install

    layout = Layout.from_environ(os.environ)
    try:
        with reporter(views.console(stderr=True)) as report:
            dev = install.ensure(layout, "dev", report)
    except StackError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    script = layout.scripts.parent / "tests" / "run.sh"
    environment = {**os.environ, "PATH": f"{dev / 'bin'}:{os.environ.get('PATH', '')}", "ENVS_DIR": str(layout.environments)}
    return subprocess.run(["bash", str(script), *arguments], env=environment, cwd=script.parents[1]).returncode


def _runtime(layout: Layout, wanted: str, running: bool = False) -> Any:
    """The runtime to use: the one that is asked for, else (with `running`) the one that has a stack, else what there is."""
    from stack.runtime.docker import Docker
    from stack.runtime.native import Native

    native, docker = Native(layout), Docker(layout)
    if wanted == "native" or (wanted == "auto" and running and native.watch.anything_runs()):
        return native
    if wanted == "docker":
        docker.require()
        return docker
    return docker if docker.answers() else native
