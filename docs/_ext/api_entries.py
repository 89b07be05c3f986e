"""The directive ``entries``: a table of public names with their summaries, then the entry of each name.

A page of the reference lists names only. autodoc writes the entries; this module chooses its options, gives attributes
their types, and leaves out the constructors of values that the library makes itself. ``Person()`` in a list, with
parentheses, keeps the constructor of a model that users make too.
"""

from __future__ import annotations

import ast
import builtins
import enum
import importlib
import inspect
import pkgutil
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_type_hints

import attrs
from sphinx import addnodes
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import TypeAliasForwardRef
from sphinx.util.typing import restify, stringify_annotation

from veriff_async.blocking._adapter import Adapter
from veriff_async.models import Model

if TYPE_CHECKING:
    from types import ModuleType

    from docutils import nodes
    from sphinx.application import Sphinx
    from sphinx.config import Config
    from sphinx.environment import BuildEnvironment

PACKAGE: Final = "veriff_async"
# Aliases keep their names in the types of parameters; autodoc would write the union that they stand for.
ALIASES: Final = ("FaceDetector", "MediaSource", "OnUnknown", "WebhookEvent")
# Types that a module imports from another place than the one that documents them, and the dictionaries of options.
TARGETS: Final = {
    "AbstractAsyncContextManager": "contextlib.AbstractAsyncContextManager",
    "Application": "aiohttp.web.Application",
    "ClientSession": "aiohttp.ClientSession",
    "DecryptionError": f"{PACKAGE}.encryption.DecryptionError",
    "CreateOptions": f"{PACKAGE}.VeriffClient.create_session",
    "DecisionFields": f"{PACKAGE}.sandbox.Sandbox.decide",
    "MediaOptions": f"{PACKAGE}.Media",
    "OpenAttempt": f"{PACKAGE}.models.state.OpenAttempt",
    "Path": "pathlib.Path",
    "RegistryOptions": f"{PACKAGE}.VeriffClient.validate_registry",
    "Request": "aiohttp.web.Request",
    "SessionOptions": f"{PACKAGE}.open_session",
    "StreamResponse": "aiohttp.web.StreamResponse",
    "datetime": "datetime.datetime",
}
# Types that users never write, and types of projects without an inventory.
PLAIN: Final = re.compile(
    r"\b(AnyHandler|AsyncBroker|AsyncConnection|AsyncConnectionPool|AsyncReader|AsyncTaskiqDecoratedTask|"
    r"AttrsInstance|Buffer|CollectTask|EncodedText|EventT_co|FaultKind|"
    r"IfExists|JobTask|JsonConverter|OnEvent|Redis)$"
)
ATTRIBUTE: Final = re.compile(r"\.\. attribute:: (\w+)")
# Every model has it, and the page about models describes it.
COMMON: Final = frozenset({"raw"})


def find_object(name: str) -> object:
    """Return the object that a dotted name below the package means, for example ``models.Reason``."""
    module, _, attribute = f"{PACKAGE}.{name}".rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def summarise(text: str) -> str:
    """Return the first sentence of a docstring, without the address of its source."""
    paragraph = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    paragraph = re.sub(r" \(https?://[^)]*\)", "", paragraph)
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", paragraph)[0]


@cache
def find_definition(module: str, name: str) -> str:
    """Return the module that defines a name which another one imports for type checkers."""
    source = Path(inspect.getfile(importlib.import_module(module)))
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and name in {alias.asname for alias in node.names}:
            return find_definition(node.module, name)
    return module


def get_text(name: str) -> str:
    """Return the docstring of a name; that of a value stands below its assignment."""
    value = find_object(name)
    if inspect.isclass(value) or inspect.isroutine(value):
        return inspect.getdoc(value) or ""
    module, _, last = f"{PACKAGE}.{name}".rpartition(".")
    comments = ModuleAnalyzer.for_module(find_definition(module, last)).find_attr_docs()
    return "\n".join(comments.get(("", last), ()))


def describe_value(name: str) -> list[str]:
    """Return the entry of a type alias, or of a constant."""
    value = find_object(name)
    text = ["   " + line for line in get_text(name).split("\n")]
    if name.isupper():
        return [f".. py:data:: {PACKAGE}.{name}", "", *text]
    return [f".. py:type:: {PACKAGE}.{name}", "", *text, "", f"   :Alias of: {restify(value, 'smart')}"]  # type: ignore[arg-type]


def describe(name: str) -> list[str]:
    """Return the entry of a name: a directive of autodoc with the options that show all that is public in it."""
    value = find_object(name)
    if inspect.isroutine(value):
        directive, options = "autofunction", ()
    elif not inspect.isclass(value):
        return describe_value(name)
    elif issubclass(value, enum.Enum):
        directive, options = "autoclass", ("members:", "undoc-members:")
    elif issubclass(value, Adapter):
        # Its other members are those of the asynchronous class.
        own = [member for member in vars(value.__mro__[1]) if not member.startswith("_")]
        directive, options = "autoclass", (f"members: {', '.join(own)}",) if own else ()
    elif issubclass(value, Exception):
        directive, options = "autoexception", ("members:", "show-inheritance:")
    else:
        directive, options = "autoclass", ("members:", "inherited-members: dict")
        if value is not Model and issubclass(value, Model):  # its methods are in one entry
            options = (*options, "exclude-members: from_dict, to_dict")
    return [f".. {directive}:: {PACKAGE}.{name}", *(f"   :{option}" for option in options)]


class Entries(SphinxDirective):
    """Write the table and the entries of the names in its content, one name in each line."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the nodes of the table, and those of autodoc."""
        listed = [line.strip() for line in self.content if line.strip()]
        names = [name.removesuffix("()") for name in listed]
        constructed: set[str] = self.env.temp_data.setdefault("constructed", set())
        constructed.update(f"{PACKAGE}.{name[:-2]}" for name in listed if name.endswith("()"))
        lines = [".. list-table::", "   :class: entries", "   :widths: auto", ""]
        for name in names:
            link = f":py:obj:`{name.rpartition('.')[2]} <{PACKAGE}.{name}>`"
            lines += [f"   * - {link}", f"     - {summarise(get_text(name))}"]
        for name in names:
            lines += ["", *describe(name)]
        return self.parse_text_to_nodes("\n".join(lines))


def find_types(owner: type) -> dict[str, Any]:
    """Return the types of the attributes of a class; those of an exception are the parameters of its constructor."""
    types: dict[str, Any] = {}
    with suppress(NameError, TypeError):
        types.update(get_type_hints(owner.__init__))
    with suppress(NameError, TypeError):
        types.update(get_type_hints(owner))
    return types


def type_attributes(_app: Sphinx, what: str, _name: str, value: object, _options: object, lines: list[str]) -> None:
    """Write the type of each attribute next to its name, and add the fields of a model that its docstring omits."""
    if what not in {"class", "exception"} or not inspect.isclass(value):
        return
    types = find_types(value)
    found: set[str] = set()
    written: list[str] = []
    name = ""
    for line in lines:
        match = ATTRIBUTE.match(line)
        if match is not None:
            name = match[1]
            found.add(name)
            written += [line, "   :no-contents-entry:"]
            if name in types:
                written.append(f"   :type: {write_type(types[name], value.__annotations__.get(name))}")
        elif not (name and line.startswith("   :type:")):
            written.append(line)
            name = name if not line or line.startswith(" ") else ""
    if attrs.has(value) and ":param" not in "\n".join(lines):
        hidden = {*found, *COMMON}
        for field in attrs.fields(value):
            if field.name not in hidden and not field.name.startswith("_"):
                annotation = stringify_annotation(types.get(field.name, field.type), "smart")
                written += [f".. attribute:: {field.name}", "   :no-contents-entry:", f"   :type: {annotation}", ""]
    lines[:] = written


def write_type(resolved: object, source: object) -> str:
    """Return a type with short names; one that Sphinx cannot write has the name of its alias."""
    text = stringify_annotation(resolved, "smart")
    return str(source) if "<class" in text else text


def write_default(field: attrs.Attribute[Any]) -> str:
    """Return the default of a field as code; a factory shows the value that it makes."""
    if isinstance(field.default, attrs.Factory):  # type: ignore[arg-type]
        return "..." if field.default.takes_self else repr(field.default.factory())
    return repr(field.default)


def shorten_signature(
    app: Sphinx, what: str, name: str, value: object, _options: object, signature: str | None, _returns: str | None
) -> tuple[str | None, str | None] | None:
    """Leave out the constructor of a value that the library makes, and write defaults as a user would."""
    if what not in {"class", "exception"} or not inspect.isclass(value) or signature is None:
        return None
    constructed = name in app.env.current_document.get("constructed", ())
    if not constructed and "Args:" not in (inspect.getdoc(value) or ""):
        return "", None
    if not attrs.has(value):
        return signature, None
    parameters = [
        inspect.Parameter(
            field.alias or field.name,
            inspect.Parameter.KEYWORD_ONLY if field.kw_only else inspect.Parameter.POSITIONAL_OR_KEYWORD,
        ).name
        + ("" if field.default is attrs.NOTHING else f"={write_default(field)}")
        for field in attrs.fields(value)
        if field.init and field.name not in COMMON
    ]
    first = next((n for n, field in enumerate(f for f in attrs.fields(value) if f.init) if field.kw_only), None)
    if first is not None:
        parameters.insert(first, "*")
    return f"({', '.join(parameters)})", None


def import_checked_names(_app: Sphinx) -> None:
    """Run the blocks that modules keep for type checkers, so that autodoc can resolve every annotation."""
    package = importlib.import_module(PACKAGE)
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(package.__path__, f"{PACKAGE}.")
        if not info.name.endswith("__main__") and not info.name.startswith(f"{PACKAGE}.cli")
    ]
    waiting = [(module, statement) for module in modules for statement in find_checked_statements(module)]
    while waiting:
        failed = [pair for pair in waiting if not run_statement(*pair)]
        if len(failed) == len(waiting):
            break
        waiting = failed  # a block may need names of another block


def find_checked_statements(module: ModuleType) -> list[ast.stmt]:
    """Return the statements under ``TYPE_CHECKING``; a block with an ``else`` belongs to names that load themselves."""
    return [
        statement
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and not node.orelse
        for statement in node.body
    ]


def run_statement(module: ModuleType, statement: ast.stmt) -> bool:
    """Run one statement in its module, and return whether the names that it needs exist."""
    try:
        exec(compile(ast.Module([statement], []), module.__name__, "exec"), vars(module))  # noqa: S102  our own source
    except (ImportError, NameError):
        return False
    return True


def rename_types(_app: Sphinx, doctree: nodes.document) -> None:
    """Write the targets of types as their own documentation does, and those of options as ours does.

    An exact name also resolves ``type`` as Python's own, not as one of the attributes of models with this name.
    """
    for reference in doctree.findall(addnodes.pending_xref):
        target = reference.get("reftarget", "")
        known = TARGETS.get(target) or TARGETS.get(target.rpartition(".")[2])
        if reference.get("refdomain") == "py" and (known or target in dir(builtins)):
            reference["reftarget"] = known or target
            reference.attributes.pop("refspecific", None)


def write_plain(
    _app: Sphinx, _env: BuildEnvironment, reference: addnodes.pending_xref, child: nodes.Element
) -> nodes.Element | None:
    """Leave a type without a link that has no page: type variables, private types and those without an inventory."""
    target = reference.get("reftarget", "")
    is_private = any(part.lstrip("~").startswith("_") for part in target.split("."))
    return child if is_private or PLAIN.search(target) else None


def keep_aliases(_app: Sphinx, config: Config) -> None:
    """Keep the names of type aliases in signatures."""
    # Sphinx writes an alias by its `repr` when it is the argument of a generic class of another project.
    TypeAliasForwardRef.__repr__ = lambda alias: alias.name  # type: ignore[method-assign]
    config.autodoc_type_aliases.update({name: name for name in ALIASES})


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive and the handlers of autodoc."""
    app.setup_extension("sphinx.ext.autodoc")  # it names the events
    app.add_directive("entries", Entries)
    app.connect("config-inited", keep_aliases)
    app.connect("doctree-read", rename_types)
    app.connect("missing-reference", write_plain, priority=900)  # after intersphinx
    app.connect("builder-inited", import_checked_names)
    app.connect("autodoc-process-docstring", type_attributes, priority=600)  # after napoleon
    app.connect("autodoc-process-signature", shorten_signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
