"""What a person types: one command each, its options, and the exit status."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from stack import __version__, plan, views
from stack.bench import command as bench_command
from stack.errors import ConfigError, StackError
from stack.logs import command as logs_command
from stack.releases import Release, Releases
from stack.runtime import deploy
from stack.runtime.layout import Layout
from stack.status import command as status_command

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
    options = _options(arguments)
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


def _options(arguments: list[str]) -> argparse.Namespace:
    """The options; `explain` takes a flag of the engine, such as --max-model-len, as its key."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if arguments[0] == "explain" and len(rest) == 1 and not options.key:
        options.key = rest.pop()
    if rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return options


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
    status_command.add_options(status)
    models = command("models", _models, "list the models there are: size, context, whether they fit here")
    fit = command("fit", _fit, "say whether a model fits, before anything is downloaded; exit status 2 if not, 1 if unknown")
    fit.add_argument("name", nargs="?", default="", metavar="NAME", help="the model (default: the one `up` would start)")
    fit.add_argument("--gpu", action="append", nargs="+", default=[], metavar="GPU", help="gb10, h100, 4xh100, 24GB ...")
    fit.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a value; repeatable")
    fit.add_argument(
        "--with", dest="extra", default="", metavar="FLAGS", help="with these vLLM flags, given as --with='...'"
    )
    check = command(
        "check", _check, "say before anything starts whether models are right for vLLM and LiteLLM; exit status 2 if not"
    )
    check.add_argument("names", nargs="*", metavar="NAME", help="a model or its file (default: all)")
    logs = command("logs", _logs, "show what the parts print, merged by time")
    logs_command.add_options(logs)
    bench = command("bench", _bench, "measure the stack that runs, through the gateway and on the engine alone")
    bench_command.add_options(bench)
    client = command("client", _client, "show how to set up another program for the stack; without NAME, which there are")
    client.add_argument("name", nargs="?", default="", metavar="NAME", help="a client, such as openai-python or claude-code")
    client.add_argument("--write", action="store_true", help="put it into the client's own configuration file")
    client.add_argument("--key", metavar="KEY", help="a key to use instead of the local one")
    explain = command("explain", _explain, "show each argument, variable and parameter: where it comes from, what it does")
    explain.add_argument("name", nargs="?", default="", metavar="NAME", help="a model, `running`, or `release:N`")
    explain.add_argument("key", nargs="?", default="", metavar="KEY", help="only this flag, variable, parameter or setting")
    explain.add_argument(
        "--diff", default="", metavar="OTHER", help="what differs from another model, `running`, `release:N`"
    )
    explain.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a value; repeatable")
    new = command("new", _new, "write the fragment of a model of the Hugging Face hub, or of a folder")
    new.add_argument("name", metavar="NAME", help="what it is to be called: models/NAME.yml")
    new.add_argument("repository", metavar="REPOSITORY", help="ORGANISATION/MODEL, or a path to a folder")
    usage = command("usage", _usage, "show what was asked of the gateway: requests, tokens, errors, times")
    usage.add_argument(
        "--by", choices=("model", "key", "day", "client"), default="model", help="what a row is (%(default)s)"
    )
    usage.add_argument(
        "--since",
        default="7d",
        metavar="WHEN",
        help="90m, 24h, 7d (today and the six days before), 2026-11-01 (%(default)s)",
    )
    form = usage.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="print CSV")
    form.add_argument("--json", action="store_true", help="print JSON")
    usage.add_argument("--html", default="", metavar="FILE", help="write a page with charts, by model, key and client")
    backup = command("backup", _backup, "write keys and usage into a file, while the stack works")
    backup.add_argument(
        "file", nargs="?", default="", metavar="FILE", help="default: one named after the time in .state/backups"
    )
    restore = command("restore", _restore, "put a backup in the place of the keys and usage there are")
    restore.add_argument("file", metavar="FILE", help="what ./runMe.sh backup wrote")
    doctor = command("doctor", _doctor, "examine the machine and say what is wrong and how to put it right; changes nothing")
    commands.add_parser("test", help="check formatting, types and behaviour; `./runMe.sh test --help` for parts of it")
    printing = (
        up,
        rollback,
        listing,
        status,
        models,
        check,
        config,
        explain,
        new,
        bench,
        client,
        fit,
        doctor,
        backup,
        restore,
    )
    for sub in printing:
        sub.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _up(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    made = plan.make(layout.root, environ, options.set)
    for note in (*made.notes, *plan.ignored_environment(made), *_fits(made, environ)):
        print(f"note: {note}", file=sys.stderr)
    runtime = _runtime(layout, made.resolved["RUNTIME"])
    known = Releases(layout.releases)
    release = known.propose(layout.root, environ, options.set, made, runtime.name)
    return _serve(runtime, known, release, environ, options.json)


def _fits(made: plan.Plan, environ: Mapping[str, str]) -> list[str]:
    """What should be known of the model's size; a hopeless start is refused."""
    from stack.fit import guard

    if not made.resolved["FIT_CHECK"]:
        return []
    problems, notes = guard.look(made, guard.here(made, environ), environ)
    if problems:
        raise ConfigError(*problems)
    return notes


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
        _start_beside(runtime, error.served.plan(), environ)
        raise
    if before and before.number != release.number:
        views.print_changes(before, release)
    views.print_ready(made, as_json=as_json)
    sys.stdout.flush()
    _start_beside(runtime, made, environ)
    return 0


def _start_beside(runtime: Any, made: plan.Plan, environ: Mapping[str, str]) -> None:
    """Bring up the chat page and what shows metrics, where they are asked for."""
    if made.resolved["CHAT"]:
        _try(runtime.start_chat, environ, "the chat page is not there, the API is")
    if made.resolved["METRICS"]:
        _try(runtime.start_metrics, environ, "metrics are not shown, the API is there")


def _try(start: Callable[[Mapping[str, str], Any], None], environ: Mapping[str, str], failing: str) -> None:
    """Start what the API does not depend on; it is there by now, and stays whatever becomes of this."""
    from stack.display import reporter

    with reporter(views.console(stderr=True)) as report:
        try:
            start(environ, report)
        except StackError as error:
            for problem in error.problems:
                report.note(f"{failing}: {str(problem).removeprefix('error: ')}")


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

    runtime = _running(layout, environ)
    with reporter(views.console(stderr=True)) as report:
        stopped = runtime.down(report)
    print("stopped; keys, usage and weights are kept" if stopped else "nothing was running")
    return 0


def _status(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    # A Docker engine that does not answer is a state to show, not a reason to show nothing.
    runtime = _choose(layout, plan.early("RUNTIME", layout.root, environ), running=True)
    return status_command.run(runtime, layout, options)


def _models(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.fit import models

    return models.run(layout.root, environ, as_json=options.json)


def _fit(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.fit import show

    gpus = [gpu for given in options.gpu for gpu in given]
    return show.run(layout, environ, options.name, gpus, options.set, options.extra, as_json=options.json)


def _check(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.check import report

    return report.run(layout.root, environ, options.names, as_json=options.json)


def _config(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    made = plan.make(layout.root, environ, options.set)
    views.print_config(made, as_json=options.json)
    return 0


def _logs(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    runtime = _running(layout, environ)
    return logs_command.run(runtime, options)


def _bench(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    return bench_command.run(layout, environ, options, lambda: _running(layout, environ))


def _client(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.clients import show

    return show.run(layout, environ, options.name, key=options.key, wanted=options.write, as_json=options.json)


def _explain(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.explain import show

    wanted = {"other": options.diff, "overrides": options.set, "as_json": options.json}
    return show.run(layout, environ, options.name, options.key, **wanted)


def _new(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.new import create

    return create.run(layout, environ, options.name, options.repository, as_json=options.json)


def _usage(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.usage import show

    runtime = _running(layout, environ)
    form = "csv" if options.csv else "json" if options.json else ""
    return show.run(layout, runtime, by=options.by, since=options.since, form=form, html=options.html)


def _backup(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.backup import create

    runtime = _running(layout, environ)
    return create.run(layout, runtime, options.file, as_json=options.json)


def _restore(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.backup import restore

    runtime = _running(layout, environ)
    return restore.run(layout, runtime, options.file, as_json=options.json)


def _doctor(options: argparse.Namespace, layout: Layout, environ: Mapping[str, str]) -> int:
    from stack.doctor import __main__ as doctor

    return doctor.run(layout, environ, options.json)


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


def _running(layout: Layout, environ: Mapping[str, str]) -> Any:
    """The runtime that has a stack, else the one there would be."""
    return _runtime(layout, plan.early("RUNTIME", layout.root, environ), running=True)


def _runtime(layout: Layout, wanted: str, running: bool = False) -> Any:
    """The runtime to use, which works if it was asked for.

    Raises:
        ConfigError: no Docker engine answers, and RUNTIME=docker.
    """
    runtime = _choose(layout, wanted, running)
    if wanted == "docker":
        runtime.require()
    return runtime


def _choose(layout: Layout, wanted: str, running: bool = False) -> Any:
    """The one that is asked for, else (with `running`) the one that has a stack, else what there is."""
    from stack.runtime.docker import Docker
    from stack.runtime.native import Native

    native, docker = Native(layout), Docker(layout)
    if wanted == "native" or (wanted == "auto" and running and native.watch.anything_runs()):
        return native
    return docker if wanted == "docker" or docker.answers() else native
