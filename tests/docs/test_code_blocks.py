"""Every code block of the README, the documentation and the examples runs, or is parsed, or says why not."""

from __future__ import annotations

import ast
import configparser
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import pytest
import yaml  # type: ignore[import-untyped]
from PIL import Image

from tests.conditions import without_slow_steps
from tests.docs.pages import ROOT, Block, find_blocks, find_pages, read_blocks
from tests.docs.shell import check_arguments, find_arguments, split_commands
from veriff_async.sandbox import Sandbox
from veriff_async.sandbox._specimens import specimen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCKS: Final = find_blocks()
PROGRAMS: Final = [
    pytest.param(block, id=block.name, marks=pytest.mark.skipif(block.exception == "not run", reason=block.reason))
    for block in BLOCKS
    if block.language == "python"
]
PARSED: Final = [pytest.param(block, id=block.name) for block in BLOCKS if block.language != "text"]
HISTORY: Final = ("CHANGELOG.md", "docs/project/names.md")
"""Pages that name commands of earlier versions."""

OTHER_PROGRAMS: Final = frozenset(
    {
        "awk",
        "cat",
        "cd",
        "curl",
        "docker",
        "echo",
        "eval",
        "export",
        "git",
        "gunicorn",
        "hypercorn",
        "java",
        "jq",
        "keytool",
        "node",
        "npm",
        "npx",
        "openssl",
        "pass",
        "pip",
        "pytest",
        "python",
        "set",
        "umask",
        "uvicorn",
    }
)
"""The programs of others in shell blocks; another name is a slip, or is to be added here."""


@pytest.fixture(scope="session")
def runner() -> Iterator[Callable[[Path, dict[str, str], str], int]]:
    """Return a function that runs the example in a folder and returns its exit code."""
    command = [sys.executable, str(Path(__file__).with_name("runner.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603  our own
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def run(folder: Path, environ: dict[str, str], warning: str) -> int:
            requests.write(json.dumps({"folder": str(folder), "environ": environ, "warning": warning}) + "\n")
            requests.flush()
            return int(answers.readline())

        yield run
        requests.close()


@pytest.mark.usefixtures("without_coverage")
@pytest.mark.parametrize("block", PROGRAMS)
def test_every_example_runs(block: Block, tmp_path: Path, runner: Callable[[Path, dict[str, str], str], int]) -> None:
    """An example runs as a program without a warning, with pictures in its folder and a local sandbox.

    The README and the pages that a reader begins with run always. The other pages would take a fifth of the suite's
    time, and run in the stage `docs` of `.ci/run`.
    """
    if not os.environ.get("VERIFF_DOCS") and not block.name.startswith(("README", "docs/index", "docs/start/")):
        pytest.skip("VERIFF_DOCS=1 runs the programs of all pages")
    for name, picture in (("front.jpg", "document-front.webp"), ("selfie.jpg", "face.webp")):
        with specimen(picture) as path, Image.open(path) as image:
            image.save(tmp_path / name, quality=90)
    tmp_path.joinpath("example.py").write_text(block.code, encoding="utf-8")
    warning = "ignore" if block.exception == "not checked for warnings" else "error"

    with Sandbox(decide_after=0) as sandbox:
        code = runner(tmp_path, dict(sandbox.environ), warning)

    assert (0, "") == (code, without_slow_steps(tmp_path.joinpath("errors").read_text(encoding="utf-8")))


@pytest.mark.parametrize("block", PARSED)
def test_every_block_is_well_formed(block: Block) -> None:
    """A block is valid in its language, and the commands of a shell block have options that exist."""
    assert block.language in PARSERS, f"{block.name}: no test knows the language {block.language}"
    PARSERS[block.language](block.code)


def check_python(code: str) -> None:
    """Compile code; pages that show a part of a coroutine await at the top level."""
    compile(code, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def check_json(code: str) -> None:
    """Parse one document, or one in each line."""
    try:
        json.loads(code)
    except ValueError:
        for line in code.splitlines():
            json.loads(line)


def check_sql(code: str) -> None:
    """Check that the text ends with a complete statement; dialects differ too much to parse it."""
    assert sqlite3.complete_statement(code)


def check_yaml(code: str) -> None:
    """Parse all documents."""
    assert list(yaml.safe_load_all(code))


def check_ini(code: str) -> None:
    """Parse sections, as those of systemd, in which a key may come twice."""
    configparser.RawConfigParser(strict=False, allow_no_value=True).read_string(code)


def check_nginx(code: str) -> None:
    """Check that each line ends as nginx demands, and that blocks are closed."""
    lines = [line.partition("#")[0].strip() for line in code.splitlines()]
    for line in filter(None, lines):
        assert line.endswith((";", "{", "}")), line
    assert code.count("{") == code.count("}")


def check_environment(code: str) -> None:
    """Check that each line assigns a variable."""
    for line in code.splitlines():
        assert re.fullmatch(r"(?:#.*|(?:export )?[A-Z_]+=.*)?", line), line


def check_dockerfile(code: str) -> None:
    """Check the first word of each instruction."""
    for line in filter(None, code.replace("\\\n", " ").splitlines()):
        assert re.match(
            r"(?:#|FROM|RUN|COPY|WORKDIR|ENV|EXPOSE|USER|CMD|ENTRYPOINT|HEALTHCHECK|ARG|STOPSIGNAL)\b", line
        ), line


def check_javascript(code: str) -> None:
    """Parse a module, where Node.js is installed."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    command = [node, "--input-type=module", "--check", "-"]
    subprocess.run(command, input=code, text=True, check=True, timeout=60)  # noqa: S603  it runs nothing


def check_shell(code: str) -> None:
    """Parse our commands as the command line does; other programs are known."""
    for words in split_commands(code):
        arguments = find_arguments(words)
        if arguments is not None:
            check_arguments(arguments)
        elif words[0] == ".ci/run":
            command = [str(ROOT / ".ci/run"), "--list"]
            stages = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  our own script
            assert set(words[1:]) <= set(stages.stdout.split()), words
        else:
            assert words[0] in OTHER_PROGRAMS, words[0]


PARSERS: Final[dict[str, Callable[[str], object]]] = {
    "python": check_python,
    "sh": check_shell,
    "js": check_javascript,
    "json": check_json,
    "sql": check_sql,
    "toml": tomllib.loads,
    "yaml": check_yaml,
    "ini": check_ini,
    "nginx": check_nginx,
    "dotenv": check_environment,
    "dockerfile": check_dockerfile,
}


def find_named_commands() -> dict[str, str]:
    """Return the commands that sentences and tables name, with the last page that names each."""
    found = {}
    for page in find_pages():
        if page.relative_to(ROOT).as_posix() in HISTORY:
            continue
        text = re.sub(r"^\s*(```+).*?^\s*\1$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for command in re.findall(r"`(veriff-async [^`]+)`", text):
            found[command] = page.relative_to(ROOT).as_posix()
    return found


@pytest.mark.parametrize(("command", "page"), find_named_commands().items())
def test_every_command_in_a_sentence_exists(command: str, page: str) -> None:
    """Commands and options that sentences name exist; a sentence may leave out what a command needs."""
    for words in split_commands(re.sub(r"\bCOMMAND\b|\.\.\.|…", "doctor", command)):
        with suppress(click.MissingParameter):
            check_arguments(find_arguments(words) or [])


def test_the_search_finds_blocks_of_all_kinds() -> None:
    """The search for blocks finds those of the README, of directives, and of lists, with the comments before them."""
    page = """
````{tab-item} One
<!-- not run: it waits -->
```python
one
```
````
- item
  ```python
  two
  ```
```{eval-rst}
.. note:: three
```
"""

    blocks = [(block.code, block.exception, block.reason) for block in read_blocks("page.md", page)]

    assert [("one\n", "not run", "it waits"), ("two\n", "", "")] == blocks
    assert {"README-python-1", "README-sh-1"} <= {block.name for block in BLOCKS}
