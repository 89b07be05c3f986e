"""The classes for synchronous code have the members of the asynchronous ones, and type checkers see the same."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from typing import TYPE_CHECKING, Final

from tests.pages import ROOT, check_page
from veriff_async import MediaStream, VeriffClient, VerificationSession, blocking
from veriff_async.blocking._adapter import translate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

STUB: Final = ROOT / "veriff_async" / "blocking" / "_classes.pyi"
CLASSES: Final = {
    MediaStream: blocking.BlockingMediaStream,
    VerificationSession: blocking.BlockingSession,
    VeriffClient: blocking.BlockingClient,
}
HEAD: Final = '"""Written by tests/blocking/test_signatures.py from the asynchronous classes; do not edit."""\n\n'
Function = ast.FunctionDef | ast.AsyncFunctionDef


def find_imports(module: ModuleType) -> Iterator[tuple[str, str]]:
    """Yield names that a module imports or defines, and a statement that imports each."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, f"import {alias.name}"
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.name, f"from {node.module} import {alias.name}"
        elif isinstance(node, ast.ClassDef):
            yield node.name, f"from {module.__name__} import {node.name}"


class Unions(ast.NodeTransformer):
    """Removes repeated members of unions: a callback may be plain or async, and here it is plain."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Return a union with each member once."""
        self.generic_visit(node)
        members = [*self.split(node.left), *self.split(node.right)]
        return ast.parse(" | ".join(dict.fromkeys(members)), mode="eval").body

    def split(self, node: ast.expr) -> list[str]:
        """Return the members of a union."""
        if isinstance(node, ast.BinOp):
            return [*self.split(node.left), *self.split(node.right)]
        return [ast.unparse(node)]


def write_method(node: Function) -> str:
    """Write the signature and the docstring of a method."""
    lines = [f"@{ast.unparse(decorator)}" for decorator in node.decorator_list]
    for argument in (*node.args.args, *node.args.kwonlyargs):
        if argument.annotation is not None and "Awaitable[" in ast.unparse(argument.annotation):
            annotation = ast.parse(translate(ast.unparse(argument.annotation)), mode="eval").body
            argument.annotation = Unions().visit(annotation)
    result = "" if node.returns is None else f" -> {translate(ast.unparse(node.returns))}"
    lines.append(f"def {node.name}({translate(ast.unparse(node.args))}){result}:")
    docstring = ast.get_docstring(node)
    text = "" if docstring is None else f'"""{translate(docstring)}'
    body = "..." if docstring is None else f'{text}\n"""' if "\n" in text else f'{text}"""'
    lines.append(textwrap.indent(body, "    "))
    return "\n".join(lines)


def write_class(original: type, adapter: type) -> str:
    """Write the class for synchronous code."""
    base = adapter.__mro__[1]
    tree = ast.parse(textwrap.dedent(inspect.getsource(original))).body[0]
    assert isinstance(tree, ast.ClassDef)
    is_client = original is VeriffClient
    head = f"class {adapter.__name__}({'ClientBase' if is_client else ''}):".replace("()", "")
    parts = [] if is_client else [f'"""{translate(ast.get_docstring(tree) or "")}\n"""']
    for node in tree.body:
        if isinstance(node, ast.AnnAssign):
            parts.append(f"@property\ndef {ast.unparse(node.target)}(self) -> {ast.unparse(node.annotation)}: ...")
        elif isinstance(node, Function) and node.name in vars(adapter):
            parts.append(write_method(node))
    if hasattr(original, "__anext__"):
        parts += ["def __iter__(self) -> Self: ...", "def __next__(self) -> bytes: ..."]
    assert base.__name__ in {"Adapter", "ClientBase"}
    return head + "\n" + textwrap.indent("\n\n".join(parts), "    ")


def write_stub() -> str:
    """Write the file that type checkers read."""
    classes = "\n\n".join(write_class(original, adapter) for original, adapter in CLASSES.items())
    names = {node.id for node in ast.walk(ast.parse(classes)) if isinstance(node, ast.Name)}
    names |= set(re.findall(r"(\w+)\.", classes)) & {"os"}
    known = {"ClientBase": "from veriff_async.blocking._client import ClientBase", "Self": "from typing import Self"}
    known |= {"SessionState": "from veriff_async.models.state import SessionState"}
    known |= {"AbstractContextManager": "from contextlib import AbstractContextManager"}
    known |= {name: f"from collections.abc import {name}" for name in ("Iterator", "Generator")}
    for original in CLASSES:
        module = inspect.getmodule(original)
        assert module is not None
        for name, statement in find_imports(module):
            known.setdefault(name, statement)
    return HEAD + "\n".join(sorted({known[name] for name in names & known.keys()})) + "\n\n" + classes + "\n"


def test_type_checkers_see_every_member() -> None:
    """The stub has the signatures and docstrings of the asynchronous classes, without await."""
    check_page(STUB, write_stub())

    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            seen = {member.name for member in node.body if isinstance(member, Function)}
            made = {name for name in vars(getattr(blocking, node.name)) if not name.startswith("_")}
            assert made == {name for name in seen if not name.startswith("_")}
