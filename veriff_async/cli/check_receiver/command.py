"""The check-receiver command: tests a webhook endpoint in any language."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from veriff_async import ConfigurationError, Credentials
from veriff_async._http.ca_bundle import ca_bundle_from, create_context
from veriff_async._logging import log_level_from
from veriff_async.cli._env_file import load_settings
from veriff_async.cli._http import check_url
from veriff_async.cli._options import FILE, Seconds, env_file_option, json_option
from veriff_async.cli._runtime import ExitCode, print_json, run, stderr_output, stdout_output
from veriff_async.cli.check_receiver.app import is_app_name, load_app
from veriff_async.cli.check_receiver.display import print_cases, print_report
from veriff_async.cli.check_receiver.hooks import effects_from_command, effects_from_url, failing_from_commands
from veriff_async.testing import RECEIVER_CASES, CaseGroup, CaseOutcome, check_receiver as run_check
from veriff_async.webhooks import WebhookReceiver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from veriff_async.testing import CaseResult, Effects, ReceiverCase, ReceiverReport

__all__ = ("check_receiver",)

_MAX_SESSION_BYTES: Final = 1024 * 1024
_REVOKED: Final = "VERIFF_REVOKED_SECRET"
_FRAMEWORKS: Final = sorted({name.lower() for case in RECEIVER_CASES for name in case.fix.frameworks})
_NAMES: Final = [group.value for group in CaseGroup] + [case.name for case in RECEIVER_CASES]


@click.command("check-receiver")
@click.argument("receiver", metavar="[URL|APP]", required=False)
@click.option("--path", default="/", show_default=True, help="Path of an application.")
@click.option("--yes", "is_confirmed", is_flag=True, help="Send to another host than this machine.")
@click.option("--only", multiple=True, type=click.Choice(_NAMES), metavar="NAME", help="Run this case or group only.")
@click.option("--skip", multiple=True, type=click.Choice(_NAMES), metavar="NAME", help="Leave this case or group out.")
@click.option("--list", "list_only", is_flag=True, help="List the cases, and send nothing.")
@click.option(
    "--vendor-data", default="veriff-async check-receiver", show_default=True, metavar="TEXT", help="Their vendorData."
)
@click.option(
    "--sessions",
    "session_file",
    type=FILE,
    metavar="FILE",
    help="Ids of sessions that the endpoint knows, one per line.",
)
@click.option("--effects-url", metavar="URL", help="Returns the effects of {session_id}.")
@click.option("--effects-command", metavar="COMMAND", help="Prints the effects of {session_id}.")
@click.option("--fail-command", metavar="COMMAND", help="Makes the work of your endpoint fail.")
@click.option("--recover-command", metavar="COMMAND", help="Lets it succeed again.")
@click.option(
    "--deadline",
    type=Seconds(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="Time in which a response counts.",
)
@click.option(
    "--stall-seconds",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="Also send a body that stops, and wait so long for the end.",
)
@click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for the whole check.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too.")
@click.option(
    "--framework",
    type=click.Choice(_FRAMEWORKS, case_sensitive=False),
    metavar="NAME",
    help=f"Show remedies for one of {', '.join(_FRAMEWORKS)}.",
)
@click.option(
    "--junit",
    "junit_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the results as JUnit XML.",
)
@env_file_option
@json_option
def check_receiver(  # noqa: PLR0913  one for each option
    *,
    receiver: str | None,
    path: str,
    is_confirmed: bool,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    list_only: bool,
    vendor_data: str,
    session_file: Path | None,
    effects_url: str | None,
    effects_command: str | None,
    fail_command: str | None,
    recover_command: str | None,
    deadline: float,
    stall_seconds: float | None,
    timeout: float,
    strict: bool,
    framework: str | None,
    junit_file: Path | None,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Check a webhook endpoint in any language: does it accept what Veriff sends, and refuse everything else?

    Give the URL of a running endpoint, or an ASGI application: module:app, or module:create_app(). It gets about 130
    webhooks on sessions that do not exist, signed with the credentials of the environment, and treats them like
    Veriff's: use a test system.

    Responses do not show whether an event takes effect once. --effects-url or --effects-command do: {session_id} is
    replaced, and the result is a number of effects, or {"count": 1, "status": "approved"}. Without them, and without
    --fail-command and --recover-command, some cases are reported as not checked.

    The exit code is 1 if a case failed with the severity error.
    """
    output = stdout_output()
    if list_only:
        if for_program:
            print_json({"cases": [_case_document(case) for case in RECEIVER_CASES]})
        else:
            print_cases(output, RECEIVER_CASES)
        return
    target = _target(receiver)
    environ = load_settings(env_file)
    credentials = Credentials.from_env(environ)
    session_ids = None if session_file is None else _read_ids(session_file)
    count_effects = _effects(effects_url, effects_command)
    if (fail_command is None) != (recover_command is None):
        msg = "--fail-command and --recover-command belong together: give both, or none of them."
        raise click.UsageError(msg)
    set_failing = (
        None
        if fail_command is None or recover_command is None
        else failing_from_commands(fail_command, recover_command)
    )

    async def work() -> ReceiverReport:
        with stderr_output().status("Checking") as show:

            def on_result(result: CaseResult) -> None:
                show(f"Checked {result.case.name}")

            return await run_check(
                target,
                credentials,
                only=only,
                skip=skip,
                path=path,
                count_effects=count_effects,
                set_failing=set_failing,
                vendor_data=vendor_data,
                session_ids=session_ids,
                revoked_secret=environ.get(_REVOKED) or None,
                allow_remote=is_confirmed,
                deadline=deadline,
                stall_seconds=stall_seconds,
                timeout=timeout,
                # It reads the trusted certificates from the disk, which would block the event loop.
                tls=await asyncio.to_thread(create_context, ca_bundle_from(environ)),
                on_result=on_result,
            )

    report = run(work())
    try:
        if junit_file is not None:
            _write(junit_file, report.to_junit())
    finally:  # the check took minutes: a path that cannot be written must not lose its results
        if for_program:
            print_json(report.to_dict())
        else:
            print_report(output, report, framework=framework)
    is_failed = not report.is_ok or (strict and any(each.outcome is CaseOutcome.FAILED for each in report.results))
    if is_failed:
        sys.exit(ExitCode.REFUSED)


def _target(receiver: str | None) -> str | Callable[..., Awaitable[object]]:
    if receiver is None:
        msg = "Give the URL of the endpoint or module:app; --list shows the cases."
        raise click.UsageError(msg)
    if is_app_name(receiver):
        _hide_refusals()
        return load_app(receiver)
    # `check_url` raises for a text that is not a URL.
    return check_url(click.get_current_context(), click.Argument(["receiver"]), receiver) or receiver


def _hide_refusals() -> None:
    """Hide the log of a receiver of this library about refused webhooks, which the check sends on purpose."""
    logger = logging.getLogger(WebhookReceiver.__module__)
    level = logger.level
    if level == logging.NOTSET and log_level_from(os.environ) is None:
        logger.setLevel(logging.ERROR)
        # The process may outlive the command, for example in tests.
        click.get_current_context().call_on_close(lambda: logger.setLevel(level))


def _effects(url: str | None, command: str | None) -> Callable[[str], Awaitable[Effects]] | None:
    if url is not None and command is not None:
        msg = "--effects-url and --effects-command have the same purpose: give one of them."
        raise click.UsageError(msg)
    if url is not None:
        return effects_from_url(url)
    return None if command is None else effects_from_command(command)


def _case_document(case: ReceiverCase) -> Mapping[str, object]:
    return {
        "name": case.name,
        "group": case.group.value,
        "severity": case.severity.value,
        "sends": case.sends,
        "expects": case.expects,
        "why": case.why,
        "source": case.source,
    }


def _read_ids(path: Path) -> list[str]:
    with path.open("rb") as file:
        # A device may never end.
        lines = file.read(_MAX_SESSION_BYTES).decode(errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        msg = f"The file of --junit cannot be written ({reason}): give another path."
        raise ConfigurationError(msg) from None
