"""The reference is written from the code: options, commands, log messages, and one entry for each public name."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import defaultdict
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Final

import attrs
import click
import pytest

import veriff_async
from tests.pages import REFERENCE, ROOT, Row, check_page, table
from veriff_async import batch, blocking, errors, inbox, models, sandbox, testing, webhooks
from veriff_async._http.ca_bundle import CA_BUNDLE_VARIABLE
from veriff_async._logging import LOG_VARIABLE, PREFIX, LogFields
from veriff_async._protocol.base_url import BASE_URL_VARIABLE, INSECURE_HOSTS_VARIABLE
from veriff_async.batch.taskiq import BatchTasks
from veriff_async.cli._commands import cli
from veriff_async.cli._runtime import ExitCode
from veriff_async.cli.sandbox.control_client import URL_VARIABLE
from veriff_async.client import FEEDBACK_URL_VARIABLE, SYNC_URL_VARIABLE
from veriff_async.credentials import API_KEY_VARIABLE, INTEGRATION_VARIABLE, SECRET_VARIABLE
from veriff_async.sandbox._control.access import TOKEN_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from veriff_async import PictureThresholds

PACKAGE: Final = ROOT / "veriff_async"
MODULES: Final = (veriff_async, batch, blocking, errors, inbox, models, sandbox, testing, webhooks)
# Where each option is passed, by the page of its entry.
OWNERS: Final[dict[str, tuple[Callable[..., object], ...]]] = {
    "credentials.md": (veriff_async.Credentials,),
    "client.md": (veriff_async.VeriffClient,),
    "policies.md": (
        veriff_async.Timeouts,
        veriff_async.RetryPolicy,
        veriff_async.PollPolicy,
        veriff_async.DeliveryPolicy,
    ),
    "media.md": (veriff_async.Media,),
    "session.md": (
        veriff_async.VerificationSession.upload,
        veriff_async.VerificationSession.wait_for_decision,
        veriff_async.VerificationSession.watch,
        veriff_async.VerificationSession.download_all,
    ),
    "webhooks.md": (
        veriff_async.WebhookReceiver,
        webhooks.aiohttp_app,
        webhooks.asgi_app,
        veriff_async.reconcile,
    ),
    "inbox.md": (inbox.MemoryInbox, inbox.SqliteInbox, inbox.RedisInbox, inbox.Retention),
    "batch.md": (
        batch.verify_many,
        batch.submit_many,
        batch.collect_many,
        batch.verify_one,
        batch.plan_many,
        batch.RateLimits,
        BatchTasks,
    ),
    "journals.md": (batch.RedisJournal, batch.PostgresJournal),
    "sandbox.md": (sandbox.Sandbox, sandbox.SandboxOptions, sandbox.TLSFiles),
}
VARIABLES: Final = {
    "Credentials.api_key": API_KEY_VARIABLE,
    "Credentials.shared_secret": SECRET_VARIABLE,
    "Credentials.previous_secrets": SECRET_VARIABLE,
    "Credentials.integration_id": INTEGRATION_VARIABLE,
    "VeriffClient.base_url": BASE_URL_VARIABLE,
    "VeriffClient.feedback_url": FEEDBACK_URL_VARIABLE,
    "VeriffClient.sync_url": SYNC_URL_VARIABLE,
    "VeriffClient.allow_insecure_hosts": INSECURE_HOSTS_VARIABLE,
    "VeriffClient.ca_bundle": CA_BUNDLE_VARIABLE,
}
# The pattern in the name, else the one that comes first in the description, is the unit of a number.
UNITS: Final = {
    r"bytes per second": "bytes per second",
    r"per second|requests a second|request rate": "per second",
    r"days\b": "days",
    r"bytes\b": "bytes",
    r"pixels\b": "pixels",
    r"digits\b": "digits",
    r"seconds?\b": "seconds",
    r"port\b": "port",
    r"growth": "factor",
    r"code\b": "code of Veriff",
    r"status\b": "HTTP status",
}
COUNTS: Final = (
    r"number|largest|most|maximum|how many|calls|jobs|"
    r"attempts|sessions|downloads|uploads"
)
HEAD: Final = """\
# Options

Every option of the library that has a default, and those of `Credentials`. An option that is `None` by default says
what this means. For the options of commands, see [Command line](command-line.md).

`VeriffClient.from_env` and `Credentials.from_env` read the variables. An argument of `from_env` takes precedence over
its variable. `VERIFF_SHARED_SECRET` may contain several secrets, separated by commas, the newest first. The library
reads no other variable, except with `trust_env=True` (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`, `~/.netrc`).

"""
SHARED: Final = frozenset({"url", "control_token", "ca_bundle", "env_file", "for_program"})
"""Options of all subcommands of the sandbox."""

COMMANDS: Final = """\
# Command line

Every command of `veriff-async` with its options. [Use the command line](../how-to/use-the-command-line.md) explains
them with examples.

Install it with `pip install "veriff-async[cli]"`. `-h` or `--help` after any command shows its help.

"""
LOGS: Final = """\
# Log messages

Every record of the library, by logger. No record contains a secret, a body or a person's data. `%s` and `%d` are
values. A level of one of these loggers is valid for those below it too. [](../how-to/log.md) explains how to show them.

## Fields

Each value of a message is a field of its record too. A record has the fields that it knows; times are in seconds. The
names are stable.

{fields}

"""
LEVELS: Final = {"exception": "ERROR", "error": "ERROR", "warning": "WARNING", "info": "INFO", "debug": "DEBUG"}


def parse_arguments(text: str) -> dict[str, str]:
    """Return the descriptions in the sections "Args" and "Attributes" of a docstring, by name."""
    found: dict[str, str] = {}
    for section in re.findall(r"^(?:Args|Attributes):\n((?:    .*\n?|\n)+)", text + "\n", re.MULTILINE):
        for name, words in re.findall(r"^    \*{0,2}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE):
            found[name] = " ".join(words.split())
    return found


LOG_FIELDS: Final = {
    name: words.replace("``", "`") for name, words in parse_arguments(inspect.getdoc(LogFields) or "").items()
}


def summarize(text: str) -> str:
    """Return the first sentence, and those that name a default, with names as in Markdown."""
    first, *others = re.split(r"(?<=[.])\s+(?=[A-Z`\"])", text.replace("``", "`"))
    return " ".join([first, *(sentence for sentence in others if re.search(r"default|None\b", sentence))])


def write_default(parameter: inspect.Parameter) -> str:
    """Return a default as a reader would write it, with the usual unit of a large number."""
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "required"
    if callable(value):
        return f"`{value.__module__}.{value.__name__}`"
    if isinstance(value, float) and value.is_integer() and value >= 86_400:
        return f"`{value}` ({value / 86_400:.0f} days)"
    if isinstance(value, int) and value >= 1_048_576 and value % 1_048_576 == 0:
        return f"`{value}` ({value // 1_048_576} MiB)"
    return f"`{value!r}`"


def find_unit(name: str, parameter: inspect.Parameter, meaning: str) -> str:
    """Return the unit of a number."""
    kind = str(parameter.annotation)
    if "Callable" in kind or not re.search(r"\b(int|float|Literal\[\d)", kind):
        return ""
    for text in (name.replace("_", " "), meaning):
        matches = ((re.search(pattern, text, re.IGNORECASE), unit) for pattern, unit in UNITS.items())
        if found := [(match.start(), unit) for match, unit in matches if match]:
            return min(found, key=itemgetter(0))[1]
    if re.search(COUNTS, f"{name} {meaning}", re.IGNORECASE):
        return "count"
    pytest.fail(f"the unit of {name} is not in its description: {meaning}")


def describe_options(page: str, owner: Callable[..., object]) -> Iterator[Row]:
    """Describe the options of a class or function."""
    title = owner.__qualname__
    meanings = parse_arguments(inspect.getdoc(owner) or "")
    for name, parameter in inspect.signature(owner).parameters.items():
        key = f"{title}.{name}"
        if parameter.default is inspect.Parameter.empty and key not in VARIABLES:
            continue
        meaning = summarize(meanings[name])
        if meaning == "See `verify_many`.":
            meaning = summarize(parse_arguments(inspect.getdoc(batch.verify_many) or "")[name])
        variable = f"`{VARIABLES[key]}`" if key in VARIABLES else ""
        unit = find_unit(name, parameter, meaning)
        if parameter.default is None and not meaning.startswith(("Called ", "Awaited ")):
            assert re.search(r"default|`None`|without", meaning), f"{key}: say what None means"
        yield Row((f"[`{title}`]({page}) `{name}`", write_default(parameter), unit, variable, meaning))


def write_thresholds() -> str:
    """Describe the thresholds of picture checks, which differ by the subject of the picture."""
    defaults = veriff_async.InspectionThresholds()
    contexts = [field.name for field in attrs.fields(veriff_async.InspectionThresholds)]
    groups: list[PictureThresholds] = [getattr(defaults, context) for context in contexts]
    rows = []
    for field in attrs.fields(veriff_async.PictureThresholds):
        check = veriff_async.CheckName(field.name)
        values = [getattr(group, field.name) for group in groups]
        bound = "at least" if check.is_minimum else "at most"
        rows.append(Row((f"`{check}`", bound, *("" if value is None else f"`{value:g}`" for value in values))))
    return table(("check", "accepted", *(f"`{context}`" for context in contexts)), rows)


def test_options() -> None:
    """The page of options has every option with default, unit, variable and meaning."""
    rows = [row for page, owners in OWNERS.items() for owner in owners for row in describe_options(page, owner)]
    heads = ("option", "default", "unit", "variable", "meaning")
    text = HEAD + "{.stack .options}\n" + table(heads, rows)
    text += (
        "\n\n## Thresholds of picture checks\n\n"
        "`InspectionThresholds` has a `PictureThresholds` for each subject; `CheckName` documents the units. "
        "An empty cell\nmeans that the check is off.\n\n" + write_thresholds() + "\n"
    )

    assert set(VARIABLES.values()) == set(re.findall(r"VERIFF_\w+(?=` \|)", text))
    check_page(REFERENCE / "options.md", text)


def escape(text: str) -> str:
    """Return the help of a command as Markdown: names of variables and options become code."""
    parts = text.split("`")
    parts[::2] = [re.sub(r"(?<![\w-])(--[a-z][\w-]*|[A-Z]+_[A-Z_]*\w)", r"`\1`", part) for part in parts[::2]]
    return "`".join(parts)


def write_help(command: click.Command) -> str:
    """Return the text of a command, without the line ends of its source."""
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(escape(" ".join(paragraph.replace("\b", "").split())) for paragraph in paragraphs)


def describe_parameters(parameters: Iterable[click.Parameter], context: click.Context) -> Iterator[Row]:
    """Describe arguments and options of a command."""
    for parameter in parameters:
        if isinstance(parameter, click.Argument):
            need = "required" if parameter.required else ""
            choices = parameter.type.choices if isinstance(parameter.type, click.Choice) else ()
            yield Row((f"`{parameter.make_metavar(context)}`", need, ", ".join(f"`{choice}`" for choice in choices)))
        elif isinstance(parameter, click.Option) and parameter.name != "version":
            record = parameter.get_help_record(context)
            assert record is not None, f"{context.info_name} {parameter.name} has no help"
            text = record[1]
            limits = re.search(r"  \[(.*)\]$", text)
            words = limits[1].split("; ") if limits else []
            default = next((word.removeprefix("default: ") for word in words if word.startswith("default: ")), "")
            if re.fullmatch(r"[\w./-]+", default):
                default = f"`{default}`"
            rest = [word for word in words if not word.startswith("default: ") and word != "required"]
            meaning = escape(text[: limits.start()] if limits else text)
            if rest:
                meaning += f" Allowed: {', '.join(f'`{word}`' for word in rest)}."
            if parameter.envvar:
                meaning += f" Variable: `{parameter.envvar}`."
            yield Row((f"`{record[0]}`", "required" if "required" in words else default, meaning))


def is_shared(parameter: click.Parameter, parent: click.Context | None) -> bool:
    """Return whether all subcommands of a group that also runs by itself have an option; it is described once."""
    while parent is not None:
        if isinstance(parent.command, click.Group) and parent.command.invoke_without_command:
            return parameter.name in SHARED
        parent = parent.parent
    return False


def describe_commands(command: click.Command, parent: click.Context | None, path: str) -> Iterator[str]:
    """Describe a command, and those below it."""
    context = click.Context(command, info_name=path.rpartition(" ")[2], parent=parent, **command.context_settings)
    if parent is not None:
        yield f"{'#' * (path.count(' ') + 1)} `{path.partition(' ')[2]}`"
    yield write_help(command)
    if not isinstance(command, click.Group) or command.invoke_without_command:
        usage = " ".join(command.collect_usage_pieces(context))
        yield f"```text\n{path} {usage}\n```"
        own = [parameter for parameter in command.params if not is_shared(parameter, parent)]
        if rows := list(describe_parameters(own, context)):
            yield "{.stack .commands}\n" + table(("option", "default", "meaning"), rows)
    if isinstance(command, click.Group) and command.invoke_without_command:
        example = command.commands[command.list_commands(context)[0]]
        yield "Its subcommands have these options too:"
        rows = list(describe_parameters([each for each in example.params if each.name in SHARED], context))
        yield "{.stack .commands}\n" + table(("option", "default", "meaning"), rows)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from describe_commands(below, context, f"{path} {name}")


def find_value_comments(path: str, owner: str) -> dict[str, str]:
    """Return the texts below the members of an enum, by name."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    body = next(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == owner)
    found: dict[str, str] = {}
    for member, comment in pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(comment, ast.Expr) and isinstance(comment.value, ast.Constant):
            target = member.targets[0]
            assert isinstance(target, ast.Name)
            found[target.id] = " ".join(str(comment.value.value).replace("``", "`").split())
    return found


def test_command_line() -> None:
    """The page of the command line has every command, option, default and exit code."""
    comments = find_value_comments("cli/_runtime.py", "ExitCode")
    codes = table(("code", "meaning"), [Row((f"{code.value}", comments[code.name])) for code in ExitCode])
    variables = table(
        ("variable", "meaning"),
        [
            Row((f"`{API_KEY_VARIABLE}`", "The API key of the integration.")),
            Row((f"`{SECRET_VARIABLE}`", "Its shared secret; several are separated by commas, the newest first.")),
            Row((f"`{BASE_URL_VARIABLE}`", "Its base URL.")),
            Row(
                (f"`{URL_VARIABLE}`, `{TOKEN_VARIABLE}`", "Address and token of a sandbox, for `sandbox` subcommands.")
            ),
            Row(
                ("`VERIFF_MAX_SESSIONS`, `VERIFF_MAX_PER_HOUR`, `VERIFF_POLL_RATE`", "Defaults of options of `batch`.")
            ),
            Row((f"`{LOG_VARIABLE}`", "Shows the log: `debug`, `info`, `warning` or `error`.")),
            Row(("other `VERIFF_` variables", "See [Options](options.md).")),
            Row(("`NO_COLOR`, `TERM=dumb`", "Switch colours off.")),
            Row(("`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`", "Proxies, with `--proxy env` only.")),
        ],
    )
    text = "\n\n".join(
        (
            COMMANDS + next(parts := describe_commands(cli, None, "veriff-async")),
            "## Exit codes\n\nThey are the same for all commands.\n\n" + codes,
            "## Variables\n\n" + variables,
            *parts,
        )
    )

    assert set(ExitCode.__members__) == set(comments)
    check_page(REFERENCE / "command-line.md", text + "\n")


def find_log_calls(path: str, tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """Yield logger, level and message of each record that a module can log."""
    names = {
        statement.target.id: logger_name(path, statement.value)
        for statement in tree.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        if isinstance(statement.value, ast.Call) and ast.unparse(statement.value.func).endswith("getLogger")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            owner = ast.unparse(node.func.value)
            if owner in names or owner.endswith(".log"):
                # The worker of SQLite logs for the store that uses it.
                name = names.get(owner, "veriff_async.inbox, veriff_async.batch")
                message = ast.literal_eval(node.args[0])
                # Formatters index fields, not the words of a sentence.
                has_fields = any(keyword.arg == "extra" for keyword in node.keywords)
                assert has_fields or len(node.args) == 1 or "/sandbox/" in path or "_logging" in path, (
                    f"{path}: {message}"
                )
                assert re.match(r"[A-Z]|%s|on_", message), f"{path}: {message}"
                yield name, LEVELS[node.func.attr], message


def logger_name(path: str, call: ast.Call) -> str:
    """Return the name of a logger: its argument, or the name of the module."""
    argument = call.args[0]
    if isinstance(argument, ast.Constant):
        return str(argument.value)
    # Levels are set for the packages, whose modules may change.
    return ".".join(path.removesuffix(".py").split("/")[:2])


def test_log_messages() -> None:
    """The page of log messages has every logger and every message; outside of the sandbox, each value is a field."""
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for file in sorted(PACKAGE.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        if "getLogger" in source or ".log." in source:
            path = file.relative_to(ROOT).as_posix()
            for logger, level, message in find_log_calls(path, ast.parse(source)):
                found[logger].append(Row((level, message)))
    sections = [
        f"## {', '.join(f'`{name}`' for name in logger.split(', '))}\n\n"
        + table(("level", "message"), dict.fromkeys(rows))
        for logger, rows in sorted(found.items())
    ]

    fields = table(("field", "meaning"), [Row((f"`{PREFIX}{name}`", words)) for name, words in LOG_FIELDS.items()])
    check_page(REFERENCE / "logging.md", LOGS.format(fields=fields) + "\n\n".join(sections) + "\n")


def listed_names() -> Iterator[str]:
    """Yield the names that pages of the reference list."""
    for page in REFERENCE.rglob("*.md"):
        for block in re.findall(r"^\.\. entries::\n\n((?:   \S+\n)+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            yield from (line.strip().removesuffix("()") for line in block.splitlines())


def find_object(name: str) -> object:
    """Return the object of a dotted name below the package."""
    module, _, last = f"veriff_async.{name}".rpartition(".")
    return getattr(importlib.import_module(module), last)


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_name_has_one_entry(module: object) -> None:
    """The pages of the reference list each public name once; a name that two modules export has one entry."""
    entries: defaultdict[str, list[str]] = defaultdict(list)
    for listed in listed_names():
        entries[listed.rpartition(".")[2]].append(listed)

    def count(name: str) -> int:
        return sum(find_object(entry) is getattr(module, name) for entry in entries[name])

    wrong = {name: entries[name] for name in vars(module)["__all__"] if name != "__version__" and count(name) != 1}
    assert not wrong, "each needs one line in a list of docs/reference"


def test_every_error_has_advice() -> None:
    """The tables of the page about errors have a row for each error and each warning."""
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    warnings = [name for name in vars(veriff_async)["__all__"] if name.endswith("Warning")]

    assert sorted(rows) == sorted([*errors.__all__, *warnings])
