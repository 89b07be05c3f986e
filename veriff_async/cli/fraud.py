"""The fraud commands: the categories of fraud, reports of fraud found after a decision, and their status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from veriff_async import ConfigurationError, FraudReport
from veriff_async.cli._model_format import show_models
from veriff_async.cli._options import InputFile, WordOrOther
from veriff_async.cli._runtime import ExitCode
from veriff_async.cli._stdio import print_stderr
from veriff_async.cli.session_data import ID, call, client_options
from veriff_async.models import FraudCategory

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import IO

__all__ = ("fraud",)

# Bytes of a comment: Veriff takes 500 characters, and the request refuses a longer one with its own message.
_MAX_COMMENT: Final = 4096


@click.group()
def fraud() -> None:
    """Report fraud that was found after a decision, and look reports up."""


@fraud.command()
@client_options
def categories(*, show_person: bool, env_file: Path | None, for_program: bool) -> None:  # noqa: ARG001
    """List the categories of fraud that can be reported."""
    result = call(env_file, lambda veriff: veriff.fraud_categories())
    show_models("categories", result, columns=("category", "description"), show_person=show_person)


@fraud.command()
@ID
@click.option(
    "--category",
    "names",
    type=WordOrOther(tuple(category.value for category in FraudCategory)),
    multiple=True,
    required=True,
    metavar="CATEGORY",
    help="A category, as in fraud categories; may be repeated.",
)
@click.option(
    "--comment",
    type=InputFile("rb", lazy=False),
    metavar="FILE",
    help="File with a comment of up to 500 characters, or - for standard input.",
)
@client_options
def report(  # noqa: PLR0913  the options of the command
    *,
    session_id: str,
    names: Sequence[str],
    comment: IO[bytes] | None,
    show_person: bool,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Report that session ID was a fraud. The exit code is 1 if Veriff does not accept the report."""
    text = None if comment is None else _read_comment(comment)
    fraud_report = FraudReport(session_id, [FraudCategory(name) for name in names], comment=text)
    receipts = call(env_file, lambda veriff: veriff.report_fraud(fraud_report))
    show_models("reports", receipts, columns=("session_id", "status", "report_id", "details"), show_person=show_person)
    if not all(receipt.is_reported for receipt in receipts):
        if not for_program:
            # Veriff's own words are among the results.
            print_stderr(
                "Veriff did not accept the report: compare the categories with those of fraud categories, and look for "
                "an earlier report with fraud lookup."
            )
        raise SystemExit(ExitCode.REFUSED)


def _read_comment(file: IO[bytes]) -> str | None:
    try:
        return file.read(_MAX_COMMENT).decode().strip() or None
    except UnicodeDecodeError:
        msg = "The comment is not UTF-8, or longer than Veriff takes: save up to 500 characters as UTF-8."
    raise ConfigurationError(msg)


@fraud.command()
@click.argument("session_ids", metavar="ID...", nargs=-1, required=True)
@client_options
def lookup(*, session_ids: Sequence[str], show_person: bool, env_file: Path | None, for_program: bool) -> None:  # noqa: ARG001
    """Show the reports about up to ten sessions, and Veriff's reviews of them."""
    result = call(env_file, lambda veriff: veriff.fraud_reports(session_ids))
    show_models("reports", result, show_person=show_person)
