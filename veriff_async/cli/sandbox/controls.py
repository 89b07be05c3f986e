"""Subcommands that control a running sandbox, each made from an operation of the control API."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import click
from attrs import frozen

from veriff_async.cli._options import json_option, show_person_option
from veriff_async.cli._runtime import print_json, run, stdout_output
from veriff_async.cli.sandbox.connection import connection_options
from veriff_async.cli.sandbox.control_client import call_operation, find_operation, path_fields
from veriff_async.cli.sandbox.field_options import NULL, data_option, field_argument, field_option, read_data
from veriff_async.cli.sandbox.views import hide_person, print_result
from veriff_async.sandbox._control.fields import Members
from veriff_async.sandbox._records import SessionPage, SessionView
from veriff_async.sandbox._webhook_records import WebhookPage, WebhookView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from veriff_async.cli.sandbox.control_client import ControlSettings
    from veriff_async.sandbox._control.fields import Field
    from veriff_async.sandbox._control.operation import Operation

__all__ = ("CONTROLS", "Control", "OrderedGroup", "build_commands")

# Results with personal data.
_WITH_PERSON: Final = (SessionPage, SessionView, WebhookPage, WebhookView)


@frozen(kw_only=True)
class Control:
    """A subcommand for one operation."""

    operation: str
    arguments: tuple[str, ...] = ()


CONTROLS: Final[Mapping[str, Control | Mapping[str, Control]]] = {
    "sessions": Control(operation="find_sessions"),
    "show": Control(operation="get_session"),
    "decide": Control(operation="decide", arguments=("status",)),
    "start-attempt": Control(operation="start_attempt"),
    "submit-attempt": Control(operation="submit_attempt"),
    "open-attempt": Control(operation="open_attempt"),
    "user-status": Control(operation="set_user_status"),
    "watchlist-screening": Control(operation="complete_watchlist_screening"),
    "pep-matches": Control(operation="set_pep_matches"),
    "registry-check": Control(operation="complete_registry_check"),
    "certificate": Control(operation="issue_certificate"),
    "proof-of-address": Control(operation="submit_address"),
    "wait-until-waiting": Control(operation="wait_until_waiting"),
    "webhooks": {
        "list": Control(operation="find_webhooks"),
        "show": Control(operation="get_webhook"),
        "hold": Control(operation="hold_webhooks"),
        "release": Control(operation="release_webhooks"),
        "deliver": Control(operation="deliver_webhook"),
        "delay": Control(operation="delay_webhook", arguments=("seconds",)),
        "duplicate": Control(operation="duplicate_webhook"),
        "reorder": Control(operation="reorder_webhooks", arguments=("webhook_ids",)),
        "drop": Control(operation="drop_webhook"),
        "resend": Control(operation="resend"),
        "urls": Control(operation="get_webhook_urls"),
        "set-urls": Control(operation="set_webhook_urls"),
        "wait-idle": Control(operation="wait_idle"),
    },
    "fault": {
        "list": Control(operation="get_faults"),
        "add": Control(operation="inject", arguments=("kind",)),
        "remove": Control(operation="remove_fault"),
        "clear": Control(operation="clear_faults"),
    },
    "clock": {
        "show": Control(operation="get_clock"),
        "advance": Control(operation="advance", arguments=("seconds",)),
    },
    "rules": {
        "show": Control(operation="get_rules"),
        "change": Control(operation="change_rules"),
    },
    "timeline": Control(operation="get_timeline"),
    "reset": Control(operation="reset"),
    "seed": Control(operation="seed", arguments=("sessions",)),
    "addresses": Control(operation="get_addresses"),
    "public-url": Control(operation="set_public_url", arguments=("public_url",)),
}
"""The subcommands, the most used first; the first one of a group is its default."""

# Methods of operations in which null removes a setting (https://www.rfc-editor.org/rfc/rfc7396).
_REPLACING: Final = frozenset({"PATCH", "PUT"})

_GROUPS: Final = {
    "webhooks": "List, hold, change and repeat webhooks; without a subcommand list them.",
    "fault": "Let requests fail; without a subcommand list the faults that wait.",
    "rules": "Show and change the rules of the sandbox.",
    "clock": "Show the time of the sandbox, and advance a virtual clock.",
}


class OrderedGroup(click.Group):
    """A group that lists its commands in the order of their addition, the most used first."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's own signature
        """Return the names of commands."""
        return list(self.commands)


class _DefaultGroup(OrderedGroup):
    """A group that runs its first command if none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the name of the first command."""
        # A shell that completes a word asks for the names of commands.
        if not ctx.resilient_parsing and (
            not args or (args[0].startswith("-") and args[0] not in self.get_help_option_names(ctx))
        ):
            args = [next(iter(self.commands)), *args]
        return super().parse_args(ctx, args)


def build_commands() -> Iterator[click.Command]:
    """Yield the subcommands."""
    for name, control in CONTROLS.items():
        if isinstance(control, Control):
            yield _build(name, control)
        else:
            group = _DefaultGroup(name, help=_GROUPS[name])
            for below, each in control.items():
                group.add_command(_build(below, each))
            yield group


def _build(name: str, control: Control) -> click.Command:
    operation = find_operation(control.operation)
    fields = list(_flat_fields(operation))
    positional = [each for each in fields if each.name in control.arguments]
    # Elsewhere null means the same as no value.
    nullable = {each.name for each in fields if each.is_nullable and operation.method in _REPLACING}
    options = {
        each.name: field_option(each, takes_none=each.name in nullable) for each in fields if each not in positional
    }
    others = [field for field in options if options[field] is None]
    parameters: list[click.Parameter] = [
        *(field_argument(each, takes_none=each.name in nullable) for each in (*path_fields(operation), *positional)),
        *(option for option in options.values() if option is not None),
    ]
    if others:
        parameters.append(data_option(others))
    command = click.Command(name, params=parameters, help=operation.text)
    command.callback = partial(_run, operation)
    # Elsewhere the option would promise data that the result never has.
    if operation.result in _WITH_PERSON:
        show_person_option(command)
    return json_option(connection_options(command))


def _flat_fields(operation: Operation) -> Iterator[Field]:
    """Yield the fields of query and body; an object whose fields are known is replaced by them."""
    for each in (*operation.query, *operation.body):
        if isinstance(each.kind, Members):
            yield from each.kind.fields
        else:
            yield each


def _run(
    operation: Operation,
    *,
    settings: ControlSettings,
    for_program: bool,
    data: Path | None = None,
    show_person: bool = True,
    **values: object,
) -> None:
    # An option that was not given is absent from the request, so that the sandbox's own default applies.
    given = {name: None if value is NULL else value for name, value in values.items() if value not in (None, ())}
    document = run(call_operation(settings, operation.name, {**read_data(data), **given}))
    if not show_person:
        document = hide_person(document)
    if for_program:
        print_json(dict(document))
    else:
        print_result(stdout_output(), document)
