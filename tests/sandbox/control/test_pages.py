"""The pages about the control API: the reference is written from the table, and the examples of the guide run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from tests.pages import REFERENCE, ROOT, Row, check_page, table
from veriff_async.sandbox import Sandbox
from veriff_async.sandbox._control.fields import Flag, ListOf, MapOf, Members, Number, Text, Word
from veriff_async.sandbox._control.models import Model
from veriff_async.sandbox._control.operation import EVENTS, FILE
from veriff_async.sandbox._control.operations import OPERATIONS
from veriff_async.sandbox._control.rule_operations import RULE_OPERATIONS
from veriff_async.sandbox._control.sandbox_operations import SANDBOX_OPERATIONS
from veriff_async.sandbox._control.session_operations import SESSION_OPERATIONS
from veriff_async.sandbox._control.webhook_operations import WEBHOOK_OPERATIONS

if TYPE_CHECKING:
    from veriff_async.sandbox._control.fields import Field, Kind
    from veriff_async.sandbox._control.operation import Operation

GUIDE: Final = ROOT / "docs" / "how-to" / "control-the-sandbox.md"
PAGE: Final = REFERENCE / "control-api.md"
TOPICS: Final = {
    "Sessions": SESSION_OPERATIONS,
    "Webhooks": WEBHOOK_OPERATIONS,
    "Rules and state": RULE_OPERATIONS,
    "Addresses, clock, faults and records": SANDBOX_OPERATIONS,
}
HEAD: Final = """\
# Control API

The operations with which programs in any language control the sandbox; [](../how-to/control-the-sandbox.md) shows how.
The paths are below `/_sandbox/api`. A test writes this page from the code. `GET /_sandbox/api/openapi.json` has the
same as OpenAPI 3.1, with all types and limits.

Bodies and results are JSON. Names of the sandbox have underscores; models have the names of Veriff's JSON. A bold field
is required.

"""


def describe(kind: Kind) -> str:  # noqa: PLR0911  one for each type
    """Return the type of a field in a few words."""
    if isinstance(kind, Word):
        return "one of " + ", ".join(f"`{word}`" for word in kind.known)
    if isinstance(kind, Number):
        return "whole number" if kind.whole else "number"
    if isinstance(kind, ListOf):
        return f"list of {describe(kind.kind)}"
    if isinstance(kind, MapOf):
        return f"object: {describe(kind.values)} by {describe(kind.names)}"
    if isinstance(kind, Model):
        return f"`{kind.model.__name__}`"
    if isinstance(kind, Members):
        return f"object with {', '.join(f'`{field.name}`' for field in kind.fields)}"
    return {Text: "text", Flag: "true or false"}.get(type(kind), "object")


def describe_field(field: Field) -> str:
    """Return the name, type and meaning of a field."""
    name = f"**`{field.name}`**" if field.is_required else f"`{field.name}`"
    text = field.text or getattr(field.kind, "text", "")
    return f"{name} ({describe(field.kind)}{', or null' if field.is_nullable else ''}): {text}"


def describe_input(operation: Operation) -> str:
    """Return the fields of an operation."""
    if operation.upload is not None:
        return f"a file of type `{operation.upload}`"
    parts = [f"query: {describe_field(field)}" for field in operation.query]
    return "<br>".join([*parts, *map(describe_field, operation.body)])


def describe_result(operation: Operation) -> str:
    """Return the type of the result."""
    if operation.result == FILE:
        return "a file"
    if operation.result == EVENTS:
        return "server-sent events"
    if isinstance(operation.result, dict):
        return ", ".join(f"`{name}`" for name in operation.result) or "`{}`"
    return f"`{operation.result.__name__}`"


def row(operation: Operation) -> Row:
    """Describe an operation."""
    members = ", ".join(f"`Sandbox.{name}`" for name in operation.python if not name.endswith("_sync"))
    call = f"`{operation.method} {operation.path}`"
    return Row((call, operation.text, describe_input(operation), describe_result(operation), members))


def test_reference_lists_every_operation() -> None:
    """The page has a table for each topic, and all operations are in one of them."""
    assert list(OPERATIONS) == [operation for operations in TOPICS.values() for operation in operations]
    heads = ("request", "what it does", "input", "result", "in Python")
    tables = [f"## {topic}\n\n{{.stack}}\n{table(heads, map(row, rows))}\n" for topic, rows in TOPICS.items()]
    check_page(PAGE, HEAD + "\n".join(tables))


def blocks(language: str) -> list[str]:
    """Return the code of the guide in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def test_javascript_of_the_guide_runs() -> None:
    """The test of the guide passes in Node.js against a sandbox with a token."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    (program,) = blocks("js")
    with Sandbox(control_token="a-token-for-tests") as sandbox:
        environ = {**os.environ, "VERIFF_SANDBOX_URL": sandbox.base_url, "VERIFF_SANDBOX_TOKEN": "a-token-for-tests"}
        command = [node, "--input-type=module", "-e", program]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=50, check=False)  # noqa: S603
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "pass 1" in done.stdout


def test_curl_of_the_guide_runs() -> None:
    """The commands of the guide add a session, find it and decide it."""
    bash, curl = shutil.which("bash"), shutil.which("curl")
    if bash is None or curl is None:
        pytest.skip("bash or curl is not installed")
    script = blocks("sh")[1]
    with Sandbox() as sandbox:
        script = script.replace("http://127.0.0.1:8800", sandbox.base_url)
        done = subprocess.run([bash, "-euc", script], capture_output=True, text=True, timeout=50, check=False)  # noqa: S603
        assert 0 == done.returncode, done.stderr
        assert ["declined"] == [session.status for session in sandbox.sessions]
