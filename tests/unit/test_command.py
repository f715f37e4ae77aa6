"""The text of `command:` to whole argument lists, and who wins for each dynamic argument."""

from __future__ import annotations

from typing import Any

import pytest

from stack.command import Dynamic, apply_dynamic, option, split, take
from stack.errors import ConfigError

SERVE = ["vllm", "serve", "m"]


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        pytest.param("vllm serve m", SERVE, id="one-line"),
        pytest.param("vllm serve m \\\n  --a 1 \\\n  --b\n", [*SERVE, "--a", "1", "--b"], id="continued"),
        pytest.param("vllm serve m\n  --a 1\n  --b\n", [*SERVE, "--a", "1", "--b"], id="line-breaks-alone"),
        pytest.param("vllm serve m \\  \t\n  --a 1", [*SERVE, "--a", "1"], id="blanks-after-backslash"),
        pytest.param("vllm serve m \\\r\n  --a 1 \\\r\n  --b\r\n", [*SERVE, "--a", "1", "--b"], id="crlf"),
        pytest.param("vllm serve m --a \\", [*SERVE, "--a"], id="backslash-at-end"),
        pytest.param("vllm serve m --a\\\n--b", [*SERVE, "--a", "--b"], id="line-break-ends-a-word"),
        pytest.param(
            "# head\nvllm serve m \\\n  # why a\n  --a 1 \\\n\n  #--off\n  --b # tail\n",
            [*SERVE, "--a", "1", "--b"],
            id="comments-between-continued-lines",
        ),
        pytest.param(
            "vllm serve m --a x#y --b '# z' --c \"#\"", [*SERVE, "--a", "x#y", "--b", "# z", "--c", "#"], id="hash-in-word"
        ),
        pytest.param('vllm serve m # it\'s a "comment" with $(x); `y`\n--a', [*SERVE, "--a"], id="anything-in-a-comment"),
        pytest.param(
            'vllm serve m --j \'{"method": "mtp", "n": [1, 2]}\'',
            [*SERVE, "--j", '{"method": "mtp", "n": [1, 2]}'],
            id="json-single-quotes",
        ),
        pytest.param('vllm serve m --j "{\\"a\\": 1}"', [*SERVE, "--j", '{"a": 1}'], id="json-double-quotes"),
        pytest.param("vllm serve m --j='{\"a\": 1}'", [*SERVE, '--j={"a": 1}'], id="json-equals"),
        pytest.param("vllm serve m --j '{\"a\":\n  1}'", [*SERVE, "--j", '{"a":\n  1}'], id="json-over-lines"),
        pytest.param(
            "vllm serve m --a \"it's\" --b 'say \"x\"' --c 'a'\"'\"'b'",
            [*SERVE, "--a", "it's", "--b", 'say "x"', "--c", "a'b"],
            id="nested-quotes",
        ),
        pytest.param(
            "vllm serve m --a '$(x) `y` ; | & > < ~'", [*SERVE, "--a", "$(x) `y` ; | & > < ~"], id="literal-in-quotes"
        ),
        pytest.param('vllm serve m --a "a;b" --b \\$x', [*SERVE, "--a", "a;b", "--b", "$x"], id="escaped"),
        pytest.param('vllm serve m --a "x\\\ny"', [*SERVE, "--a", "xy"], id="continued-inside-quotes"),
        pytest.param("vllm serve m --a ''", [*SERVE, "--a", ""], id="empty-argument"),
        pytest.param("vllm serve m --max_model_len=8K -tp 2", [*SERVE, "--max_model_len=8K", "-tp", "2"], id="forms"),
        pytest.param(
            "vllm serve m --a x~y --b größe --c *", [*SERVE, "--a", "x~y", "--b", "größe", "--c", "*"], id="plain-characters"
        ),
    ],
)
def test_split(text: str, argv: list[str]) -> None:
    assert split(text, "f", 1) == argv


SHELL = "no shell runs this command; put the text in single quotes to mean it literally"


def _problems(text: str, first_line: int = 10) -> list[tuple[str, str, str]]:
    with pytest.raises(ConfigError) as caught:
        split(text, "f", first_line)
    return [(problem.place, problem.what.removeprefix("command: "), problem.cure) for problem in caught.value.problems]


@pytest.mark.parametrize("char", [";", "|", "&", ">", "<", "(", ")"])
def test_shell_operator(char: str) -> None:
    assert _problems(f"vllm serve m \\\n  # {char}\n  --a {char} x\n") == [
        ("f:12", f"has {char!r}, a shell operator", SHELL)
    ]


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param(
            "vllm serve m\n--a $(touch canary)",
            [
                ("f:11", "has '$', which only a shell would expand", SHELL),
                ("f:11", "has '(', a shell operator", SHELL),
                ("f:11", "has ')', a shell operator", SHELL),
            ],
            id="substitution",
        ),
        pytest.param("vllm serve $M", [("f:10", "has '$', which only a shell would expand", SHELL)], id="variable"),
        pytest.param(
            'vllm serve "$M"', [("f:10", "has '$', which only a shell would expand", SHELL)], id="in-double-quotes"
        ),
        pytest.param(
            "vllm serve m\n\n`id`", [("f:12", "has '`', which only a shell would expand", SHELL)] * 2, id="backticks"
        ),
        pytest.param(
            "vllm serve ~/m", [("f:10", "has '~', which only a shell would expand", "write the path in full")], id="home"
        ),
        pytest.param(
            "vllm serve m \\\n --a 'x\n\n", [("f:11", "a quote ' is opened and never closed", "")], id="open-single"
        ),
        pytest.param('vllm serve m\n --a "x\n', [("f:11", 'a quote " is opened and never closed', "")], id="open-double"),
        pytest.param(
            'vllm serve m\n--j {"a": 1}',
            [("f:11", "has unquoted JSON at '{\"a\": 1}'", "put it in single quotes")],
            id="json",
        ),
        pytest.param(
            'vllm serve m --j={"a": 1}',
            [("f:10", "has unquoted JSON at '{\"a\": 1}'", "put it in single quotes")],
            id="json-equals",
        ),
        pytest.param(
            'vllm serve m --j { "a": 1 }',
            [("f:10", "has unquoted JSON at '{ \"a\": 1 }'", "put it in single quotes")],
            id="json-blank",
        ),
        pytest.param(
            'vllm serve m --j [{"a": 1}]',
            [("f:10", "has unquoted JSON at '[{\"a\": 1}]'", "put it in single quotes")],
            id="json-list",
        ),
        pytest.param("", [("f:10", "is empty", "write the `vllm serve` command for the model")], id="empty"),
        pytest.param("# only\n", [("f:10", "is empty", "write the `vllm serve` command for the model")], id="comment-only"),
        pytest.param(
            "python -m vllm",
            [("f:10", "begins with 'python -m', not `vllm serve`", "begin with `vllm serve MODEL`")],
            id="other",
        ),
        pytest.param(
            "A=1 vllm serve m",
            [
                (
                    "f:10",
                    "begins with 'A=1 vllm', not `vllm serve`",
                    "environment variables belong under env:; begin with `vllm serve MODEL`",
                )
            ],
            id="assignment",
        ),
        pytest.param("vllm serve", [("f:10", "names no model", "write it right after `vllm serve`")], id="no-model"),
        pytest.param("vllm serve --a m", [("f:10", "names no model", "write it right after `vllm serve`")], id="flag-first"),
        pytest.param(
            "vllm serve m --override-generation-config 'top_k=1'",
            [
                (
                    "f:10",
                    "--override-generation-config is not a JSON object: 'top_k=1'",
                    "for example '{\"top_k\": 20}', in single quotes",
                )
            ],
            id="generation-no-json",
        ),
        pytest.param(
            "vllm serve m --override_generation_config=[1]",
            [
                (
                    "f:10",
                    "--override-generation-config is not a JSON object: '[1]'",
                    "for example '{\"top_k\": 20}', in single quotes",
                )
            ],
            id="generation-list",
        ),
    ],
)
def test_refused(text: str, problems: list[tuple[str, str, str]]) -> None:
    assert _problems(text) == problems


@pytest.mark.parametrize(
    ("argv", "values", "rest"),
    [
        (["--host", "h", "--x"], ["h"], ["--x"]),
        (["--host=h"], ["h"], []),
        (["--x", "--host"], [], ["--x"]),
        (["--host", "a", "--x", "1", "--host=b"], ["a", "b"], ["--x", "1"]),
        (["--hostname", "a"], [], ["--hostname", "a"]),
    ],
)
def test_take(argv: list[str], values: list[str], rest: list[str]) -> None:
    whole = [*SERVE, *argv]
    assert take(whole, "--host") == values
    assert whole == [*SERVE, *rest]


def test_take_lists_and_underscores() -> None:
    argv = [*SERVE, "--served_model_name", "a", "b", "--max_model_len=8"]
    assert option(argv, "--max-model-len") == ["8"]
    assert take(argv, "--served-model-name") == ["a", "b"]
    assert argv == [*SERVE, "--max_model_len=8"]


STACK = ["--host", "127.0.0.1", "--port", "8000", "--served-model-name", "vllm_agent", "m"]
DRAIN = ["--shutdown-timeout", "20"]


def _dynamic(**changes: Any) -> Dynamic:
    return Dynamic(**{"host": "127.0.0.1", "port": 8000, "served_names": ("vllm_agent", "m"), **changes})


@pytest.mark.parametrize(
    ("own", "changes", "argv", "notes"),
    [
        pytest.param([], {}, [*SERVE, *STACK, *DRAIN], [], id="nothing-of-its-own"),
        pytest.param(
            ["--host", "0.0.0.0"],
            {},
            [*SERVE, *STACK, *DRAIN],
            ["--host of the fragment is not used: the engine listens where the gateway looks for it"],
            id="host-stack",
        ),
        pytest.param(
            ["--port=9"],
            {},
            [*SERVE, *STACK, *DRAIN],
            ["--port of the fragment is not used: the engine's port is ENGINE_PORT"],
            id="port-stack",
        ),
        pytest.param(
            ["--api_key", "sk-secret"],
            {},
            [*SERVE, *STACK, *DRAIN],
            [
                "--api-key of the fragment is not used: the engine's key is in secrets/VLLM_API_KEY and travels by VLLM_API_KEY"
            ],
            id="api-key-stack",
        ),
        pytest.param(
            ["--api-key", "sk-one", "sk-two", "--x"],
            {},
            [*SERVE, "--x", *STACK, *DRAIN],
            [
                "--api-key of the fragment is not used: the engine's key is in secrets/VLLM_API_KEY and travels by VLLM_API_KEY"
            ],
            id="api-key-list-stack",
        ),
        pytest.param(
            ["--served-model-name", "mine", "m"], {}, [*SERVE, *STACK, "mine", *DRAIN], [], id="served-model-name-both"
        ),
        pytest.param(
            ["--shutdown-timeout", "5"], {}, [*SERVE, "--shutdown-timeout", "5", *STACK], [], id="shutdown-timeout-fragment"
        ),
        pytest.param(
            ["--revision", "mine"],
            {"revision": "r"},
            [*SERVE, "--revision", "mine", *STACK, *DRAIN],
            [],
            id="revision-fragment",
        ),
        pytest.param([], {"revision": "r"}, [*SERVE, *STACK, "--revision", "r", *DRAIN], [], id="revision-stack"),
        pytest.param(
            [],
            {"revision": "r", "model": "/w"},
            ["vllm", "serve", "/w", *STACK, *DRAIN],
            [],
            id="no-revision-for-local-weights",
        ),
        pytest.param(
            ["--override-generation-config", '{"top_k": 20, "length_penalty": 2}'],
            {"generation": {"top_k": 5, "temperature": 0.7}},
            [*SERVE, *STACK, *DRAIN, "--override-generation-config", '{"top_k":5,"length_penalty":2,"temperature":0.7}'],
            [],
            id="generation-merged",
        ),
        pytest.param(
            ["--override-generation-config={}"],
            {"generation": None},
            [*SERVE, "--override-generation-config={}", *STACK, *DRAIN],
            [],
            id="generation-untouched-for-pooling",
        ),
        pytest.param([], {"log_requests": True}, [*SERVE, *STACK, *DRAIN, "--enable-log-requests"], [], id="log-requests"),
        pytest.param(
            ["--enable-log-requests"],
            {"log_requests": True},
            [*SERVE, "--enable-log-requests", *STACK, *DRAIN],
            [],
            id="log-requests-once",
        ),
        pytest.param([], {"shutdown_timeout": 0}, [*SERVE, *STACK, "--shutdown-timeout", "0"], [], id="no-drain"),
    ],
)
def test_dynamic(own: list[str], changes: dict[str, Any], argv: list[str], notes: list[str]) -> None:
    given = [*SERVE, *own]
    assert apply_dynamic(given, _dynamic(**changes)) == (argv, notes)
    assert given == [*SERVE, *own]
