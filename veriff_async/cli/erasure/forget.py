"""The forget command: erase persons at Veriff and in stores, and continue over days."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from veriff_async._protocol.counts import format_count
from veriff_async.cli._env_file import create_client
from veriff_async.cli._options import Seconds, env_file_option, json_option, proxy_option
from veriff_async.cli._runtime import (
    ExitCode,
    command_line,
    confirm,
    current_command,
    print_json,
    run,
    stdout_output,
    warn,
)
from veriff_async.cli._stdio import print_stderr
from veriff_async.cli.erasure.stores import store_options
from veriff_async.erasure import ErasureQueue, VeriffErasure, forget as erase, resume_erasures
from veriff_async.erasure._time_limit import DEFAULT_STORE_TIMEOUT
from veriff_async.erasure.forget import forget_each

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from veriff_async.cli.erasure.stores import StoreOptions
    from veriff_async.client import VeriffClient
    from veriff_async.erasure import ErasableStore, ErasureReceipt

__all__ = ("forget",)

_QUEUE: Final = "veriff-erasures.db"


@click.command()
@click.argument("session_ids", metavar="[ID]...", nargs=-1)
@click.option("--vendor-data", metavar="TEXT", help="All sessions of the inbox with exactly this vendor data.")
@click.option("--end-user-id", metavar="TEXT", help="All sessions of the inbox with exactly this end-user id.")
@click.option("--resume", is_flag=True, help="Continue the erasures that are not complete.")
@click.option("--receipts", is_flag=True, help="Show all receipts, and erase nothing.")
@click.option(
    "--queue",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path(_QUEUE),
    show_default=True,
    metavar="FILE",
    help="Keeps the progress and the receipts; use one file for all erasures.",
)
@store_options
@click.option("--local-only", is_flag=True, help="Leave Veriff out.")
@click.option(
    "--store-timeout",
    type=Seconds(min=0, min_open=True),
    default=DEFAULT_STORE_TIMEOUT,
    show_default=True,
    metavar="SECONDS",
    help="Time for each store; a slower one fails, and is asked again by --resume.",
)
@click.option("--wait", is_flag=True, help="Wait for Veriff's quota, five deletions an hour and ten a day.")
@click.option("--yes", is_flag=True, help="Erase without a question; needed where no terminal is.")
@proxy_option
@env_file_option
@json_option
def forget(  # noqa: PLR0913  the options of the command
    *,
    session_ids: tuple[str, ...],
    vendor_data: str | None,
    end_user_id: str | None,
    resume: bool,
    receipts: bool,
    queue: Path,
    stores: StoreOptions,
    local_only: bool,
    store_timeout: float,
    wait: bool,
    yes: bool,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Erase sessions, or all sessions of a person, at Veriff and in the stores that the options name.

    The stores erase at once. Veriff permits five deletions an hour and ten a day: run `forget --resume` with the same
    options every hour, for example, until it ends with 0. It ends with 6 while something is left, and the receipts say
    what. This cannot be undone.
    """
    people = [value for value in (vendor_data, end_user_id) if value is not None]
    if sum(map(bool, (session_ids, people, resume, receipts))) != 1 or len(people) > 1:
        msg = "Give sessions, or --vendor-data, or --end-user-id, or --resume, or --receipts: one of them."
        raise click.UsageError(msg)
    if (resume or receipts) and not queue.is_file():
        msg = "The queue does not exist: give --queue the file with which the erasures were started."
        raise click.UsageError(msg)
    if not (yes or resume or receipts):
        confirm("Erase everything about them? This cannot be undone.", "Nothing was erased.")
    client = None if local_only or receipts else create_client(env_file)
    command = shlex.join(("forget", "--resume", "--queue", str(queue)))
    current_command().set_resume_hint(f"To continue, with the same stores: {command_line(command, env_file)}")

    continue_all = partial(resume_erasures, store_timeout=store_timeout, on_progress=_show_progress)

    async def work() -> Sequence[ErasureReceipt]:
        async with ErasureQueue(queue) as opened:
            return await opened.get_receipts() if receipts else await erase_all(opened)

    async def erase_all(opened: ErasureQueue) -> Sequence[ErasureReceipt]:
        async with stores.open() as named, client or nullcontext():
            if resume:
                return await continue_all(opened, client=client, stores=named, wait=wait)
            begin = (
                partial(forget_each, session_ids) if session_ids else partial(_forget_person, vendor_data, end_user_id)
            )
            begun = await begin(queue=opened, client=client, stores=named, store_timeout=store_timeout)
            if wait:
                await continue_all(opened, client=client, stores=named, wait=True)
            return [await opened.get_receipt(receipt.erasure_id) for receipt in begun]

    shown = run(work())
    _show(shown, for_program=for_program)
    if people and not any(receipt.sessions for receipt in shown):
        warn("The inbox has no session with this value, so nothing was erased: check the value and the inbox.")
    if not receipts and not all(receipt.is_complete for receipt in shown):
        raise SystemExit(ExitCode.PENDING)


async def _forget_person(  # noqa: PLR0913  who, and where
    vendor_data: str | None,
    end_user_id: str | None,
    *,
    queue: ErasureQueue,
    client: VeriffClient | None,
    stores: Mapping[str, ErasableStore],
    store_timeout: float,
) -> Sequence[ErasureReceipt]:
    receipt = await erase(
        queue=queue,
        vendor_data=vendor_data,
        end_user_id=end_user_id,
        client=client,
        stores=stores,
        store_timeout=store_timeout,
    )
    return [receipt]


def _show_progress(receipt: ErasureReceipt) -> None:
    if not current_command().for_program:
        print_stderr(_describe(receipt))


def _show(receipts: Sequence[ErasureReceipt], *, for_program: bool) -> None:
    if for_program:
        print_json({"receipts": [receipt.to_dict() for receipt in receipts]})
        return
    output = stdout_output()
    if not receipts:
        output.print("Nothing is left to erase.")
    for receipt in receipts:
        output.print(_describe(receipt))
        for name, problem in receipt.problems.items():
            output.print(f"{name}: {problem}", indent=2)


def _describe(receipt: ErasureReceipt) -> str:
    """Return what an erasure has done, in a sentence or two."""
    total, waiting = len(receipt.sessions), receipt.veriff.get(VeriffErasure.WAITING, 0)
    parts = [f"{count} in {name}" for name, count in receipt.erased.items()]
    if VeriffErasure.SKIPPED not in receipt.veriff:
        parts.insert(0, f"{total - waiting} of {format_count(total, 'session')} at Veriff")
    done = f"Erasure {receipt.erasure_id} {'is complete' if receipt.is_complete else 'continues'}: {', '.join(parts)}."
    due = receipt.next_attempt_at
    return done if due is None else f"{done} Veriff can be asked again at {due:%Y-%m-%d %H:%M} UTC."
