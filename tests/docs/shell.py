"""Shell commands of the documentation, as click parses them."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

import click

from veriff_async.cli._commands import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

OURS: Final = (("veriff-async",), ("python", "-m", "veriff_async"))
SEPARATORS: Final = frozenset({"&&", "||", "|", "|&", ";", "&", "(", ")", "{", "}"})
REDIRECTION: Final = re.compile(r"\d?(?:>>?|<|>&|<\()")
SUBSTITUTION: Final = re.compile(r"\$\(([^()]*)\)")
ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=")


def split_commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each simple command, without assignments, redirections and the text of here documents."""
    script = script.replace("\\\n", " ")
    prompted = re.findall(r"^\$ (.*)", script, re.MULTILINE)  # the other lines of such a block are output
    lines = iter(prompted or script.splitlines())
    for line in lines:
        if here := re.search(r"<<-?\s*['\"]?(\w+)", line):
            for text in lines:
                if text.strip() == here[1]:
                    break
        for substitution in SUBSTITUTION.findall(line):
            yield from split_commands(substitution)
        yield from _split_line(SUBSTITUTION.sub("SUBSTITUTED", line))


def _split_line(line: str) -> Iterator[list[str]]:
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    command: list[str] = []
    redirected = False
    for word in words:
        if word in SEPARATORS:
            if command:
                yield command
            command, redirected = [], False
        elif redirected:
            redirected = False
        elif REDIRECTION.fullmatch(word):
            redirected = word != "<("
        elif command or not ASSIGNMENT.match(word):
            command.append(word)
    if command:
        yield command


def find_arguments(words: list[str]) -> list[str] | None:
    """Return the arguments of our command, or `None` if the words run another program."""
    for name in OURS:
        if words[: len(name)] == list(name):
            return words[len(name) :]
    return None


def check_arguments(arguments: list[str], command: click.Command = cli, parent: click.Context | None = None) -> None:
    """Parse arguments as the command line does, without opening files.

    Raises:
        click.UsageError: A command or option is unknown, or a value is missing or has the wrong form.
    """
    context = click.Context(command, parent, info_name=command.name, **command.context_settings)
    options, left, _ = command.make_parser(context).parse_args(list(arguments))
    for parameter in command.params:
        value = options.get(parameter.name or "")
        if parameter.is_eager and value:
            return  # such as --help, which needs nothing else
        if parameter.value_is_missing(value):
            if parameter.required:
                raise click.MissingParameter(ctx=context, param=parameter)
        elif not isinstance(parameter.type, (click.Path, click.File)):
            parameter.type_cast_value(context, value)
    if isinstance(command, click.Group):
        if not left and command.invoke_without_command:
            return
        if not left:
            raise click.MissingParameter(ctx=context, param_type="command")
        _, subcommand, rest = command.resolve_command(context, left)
        assert subcommand is not None
        check_arguments(rest, subcommand, context)
    elif left:
        msg = f"unexpected arguments: {left}"
        raise click.UsageError(msg, context)
