"""Many verifications from a manifest, with a journal to go on from whatever stopped them."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, get_args

import click
from attrs import evolve

from veriff_async import ConfigurationError
from veriff_async.batch import OnUnknown
from veriff_async.cli._exits import Exit
from veriff_async.cli._options import (
    FILE,
    Seconds,
    env_file_option,
    inbox_option,
    json_option,
    outage_option,
    proxy_option,
    show_person_option,
    timeout_option,
    use_proxy,
)
from veriff_async.cli._output import megabytes
from veriff_async.cli._runtime import course, print_json, progress_screen, result_screen, run, warn
from veriff_async.cli._settings import client_from_settings
from veriff_async.cli.batch.manifest import check
from veriff_async.cli.batch.runner import look, run_collection, run_plan, settle_job
from veriff_async.cli.batch.saved_options import Plan, plan_of
from veriff_async.cli.decision_output import again

if TYPE_CHECKING:
    from veriff_async.batch import InvalidRow
    from veriff_async.cli.batch.manifest import Checked
    from veriff_async.cli.batch.runner import Told
    from veriff_async.cli.batch.summary import Outcomes

__all__ = ("batch",)

_NEW: Final = click.Path(dir_okay=False, path_type=Path)
"""A file that need not be there."""

_ON_UNKNOWN: Final = click.Choice(get_args(OnUnknown))


@click.group()
def batch() -> None:
    """Verify many people from a CSV or JSON Lines file.

    Every step is in the journal, so that a batch that was stopped or killed goes on where it was.
    """


@batch.command("run")
@click.argument("manifest", type=FILE)
@click.option(
    "--journal", type=_NEW, metavar="FILE", help="Where every step is written; it is made when it is missing."
)
@click.option("--out", type=_NEW, metavar="FILE", help="Where results are appended, a JSON object in a line each.")
@click.option("--check", "is_check", is_flag=True, help="Look at the rows and their files only; send nothing.")
@click.option("--skip-bad", is_flag=True, help="Leave bad rows out, instead of sending nothing.")
@click.option(
    "--concurrency", type=click.IntRange(1), default=32, show_default=True, help="Most sessions open at once."
)
@click.option("--max-waiting", type=click.IntRange(1), default=1000, show_default=True, help="Most waits at once.")
@click.option(
    "--on-unknown",
    type=_ON_UNKNOWN,
    default="hold",
    show_default=True,
    help="What becomes of a job whose session may have been created without an answer.",
)
@click.option("--retry-failed", is_flag=True, help="Try jobs again that failed for good in an earlier run.")
@click.option("--submit-only", is_flag=True, help="Leave the decisions to batch collect.")
@timeout_option
@outage_option
@inbox_option
@show_person_option
@proxy_option
@env_file_option
@json_option
def batch_run(  # noqa: PLR0913  the options of the command
    *,
    manifest: Path,
    journal: Path | None,
    out: Path | None,
    is_check: bool,
    skip_bad: bool,
    concurrency: int,
    max_waiting: int,
    on_unknown: OnUnknown,
    retry_failed: bool,
    submit_only: bool,
    timeout: float,
    max_outage: float,
    inbox: Path | None,
    show_person: bool,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Verify everybody in MANIFEST, a .csv or .jsonl file.

    Bad rows are named with their lines before anything is sent; unless --skip-bad is given, nothing is sent then. The
    exit code is 0 when every job is decided (or submitted, with --submit-only), 1 when some are not, and 2 when there
    are bad rows.
    """
    if is_check:
        checked = _checked(manifest, timeout, journal)
        if for_program:
            print_json(checked.document())
        else:
            result_screen().say(f"{checked.total} rows, {checked.good} of them good.")
        raise SystemExit(Exit.USAGE if checked.bad or not checked.total else Exit.DONE)
    if journal is None or out is None:
        msg = "Without --check give --journal and --out."
        raise click.UsageError(msg)
    plan = Plan(
        manifest=manifest,
        out=out,
        env_file=env_file,
        inbox=inbox,
        timeout=timeout,
        concurrency=concurrency,
        max_waiting=max_waiting,
        on_unknown=on_unknown,
        skip_bad=skip_bad,
        submit_only=submit_only,
        show_person=show_person,
        proxy=course().proxy,
    )
    _go(journal, plan, retry_failed=retry_failed, max_outage=max_outage)


@batch.command("resume")
@click.option("--journal", type=FILE, required=True, metavar="FILE", help="The journal of the batch.")
@click.option(
    "--out", type=_NEW, metavar="FILE", help="Where results are appended; the same file as before if left out."
)
@click.option("--on-unknown", type=_ON_UNKNOWN, help="See batch run; as before if left out.")
@click.option("--retry-failed", is_flag=True, help="Try jobs again that failed for good.")
@outage_option
@proxy_option
@env_file_option
@json_option
def batch_resume(  # noqa: PLR0913  the options of the command
    *,
    journal: Path,
    out: Path | None,
    on_unknown: OnUnknown | None,
    retry_failed: bool,
    max_outage: float,
    env_file: Path | None,
    for_program: bool,  # noqa: ARG001  the course knows
) -> None:
    """Go on with a batch that was stopped or killed, with the manifest and the options that it was begun with."""
    plan = plan_of(journal)
    if plan is None:
        msg = "Nothing beside the journal says how the batch was begun: give its manifest to batch run once more."
        raise ConfigurationError(msg)
    if course().proxy is None:
        use_proxy(plan.proxy)
    plan = evolve(
        plan,
        out=out or plan.out,
        proxy=course().proxy,
        on_unknown=on_unknown or plan.on_unknown,
        env_file=env_file or plan.env_file,
    )
    if not plan.manifest.exists():
        msg = "The manifest of the batch is gone: put it back, or use batch collect for what is submitted already."
        raise ConfigurationError(msg)
    _go(journal, plan, retry_failed=retry_failed, max_outage=max_outage)


@batch.command("collect")
@click.option("--journal", type=FILE, required=True, metavar="FILE", help="The journal of the batch.")
@click.option("--out", type=_NEW, required=True, metavar="FILE", help="Where results are appended.")
@click.option("--max-waiting", type=click.IntRange(1), default=1000, show_default=True, help="Most waits at once.")
@click.option(
    "--timeout",
    type=Seconds(min=0),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for each decision; 0 asks once.",
)
@outage_option
@inbox_option
@show_person_option
@proxy_option
@env_file_option
@json_option
def batch_collect(  # noqa: PLR0913  the options of the command
    *,
    journal: Path,
    out: Path,
    max_waiting: int,
    timeout: float,
    max_outage: float,
    inbox: Path | None,
    show_person: bool,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Gather the decisions on what is submitted; the manifest is not needed.

    The exit code is 0 when all are decided, 4 when some are not yet, and 1 when Veriff does not tell.
    """
    plan = plan_of(journal)
    env_file = env_file or (plan.env_file if plan else None)
    inbox = inbox or (plan.inbox if plan else None)
    if course().proxy is None and plan is not None:
        use_proxy(plan.proxy)
    advice = again(f"batch collect {_files(journal, out)}", env_file)
    course().reached(f"To go on: {advice}", command=advice)
    work = run_collection(
        partial(client_from_settings, env_file),
        inbox,
        journal,
        out,
        timeout=timeout,
        max_waiting=max_waiting,
        max_outage=max_outage,
        show_person=show_person,
        quiet=for_program,
    )
    told = run(work)
    _tell(journal, out, told, bad=None)
    raise SystemExit(Exit.UNDECIDED if told.outcomes.is_late else told.outcomes.exit)


@batch.command("status")
@click.option("--journal", type=FILE, required=True, metavar="FILE", help="The journal of the batch.")
@json_option
def batch_status(*, journal: Path, for_program: bool) -> None:
    """Count the jobs of a journal by where they stand; a run may go on meanwhile."""
    outcomes = run(look(journal))
    if for_program:
        print_json({"total": outcomes.total, "outcomes": outcomes.document(), "in_doubt": outcomes.doubtful})
        return
    _table(outcomes)
    _ask(journal, outcomes)
    plan = plan_of(journal)
    if outcomes.exit is not Exit.DONE and plan is not None:
        is_submitted = plan.submit_only and outcomes.is_late
        words = f"collect {_files(journal, plan.out)}" if is_submitted else f"resume --journal {_quoted(journal)}"
        progress_screen().say(f"If no run is active, go on with: {again(f'batch {words}', None)}")


@batch.command("settle")
@click.option("--journal", type=FILE, required=True, metavar="FILE", help="The journal of the batch.")
@click.option("--session", "session_id", metavar="ID", help="The session that was created for the job.")
@click.option("--recreate", is_flag=True, help="There is none: create one when the batch goes on.")
@click.argument("job_id", metavar="JOB")
def batch_settle(*, journal: Path, session_id: str | None, recreate: bool, job_id: str) -> None:
    """Say what became of a creation whose answer was lost.

    Look for the job's vendor_data in the Customer Portal or among your webhooks; it is the job's id unless the
    manifest gives another.
    """
    if (session_id is None) is not recreate:
        msg = "Give --session ID, or --recreate when there is no session."
        raise click.UsageError(msg)
    run(settle_job(journal, job_id, session_id))
    result_screen().say(
        f"Job {job_id} is settled. To go on: {again(f'batch resume --journal {_quoted(journal)}', None)}"
    )


def _go(journal: Path, plan: Plan, *, retry_failed: bool, max_outage: float) -> NoReturn:
    """Check a manifest, then do what it says, and tell what came of it."""
    connect = partial(client_from_settings, plan.env_file)
    connect()  # so that what is missing there is told before a long look at files
    checked = _checked(plan.manifest, plan.timeout, journal)
    if course().for_program and plan.skip_bad:
        for row in checked.bad:
            warn(_bad(row))
    if not checked.total or (checked.bad and not plan.skip_bad):
        if course().for_program:
            print_json(checked.document())
        else:
            words = f"{len(checked.bad)} of {checked.total} rows are bad" if checked.total else "There are no rows"
            progress_screen().say(f"{words}, so nothing was sent: mend them, or leave them out with --skip-bad.")
        raise SystemExit(Exit.USAGE)
    advice = again(f"batch resume {_files(journal, plan.out)}", None)
    course().reached(f"To go on: {advice}", command=advice)
    work = run_plan(
        plan,
        connect,
        journal,
        total=checked.good,
        retry_failed=retry_failed,
        max_outage=max_outage,
        changed=partial(_say_changed, {row.line for row in checked.bad}),
        quiet=course().for_program,
    )
    told = run(work)
    _tell(journal, plan.out, told, bad=checked.bad)
    raise SystemExit(told.outcomes.exit)


def _checked(manifest: Path, timeout: float, journal: Path | None) -> Checked:
    if not manifest.is_file():
        # A second look at a pipe would wait for a writer for ever.
        msg = "The manifest is read more than once, so it cannot be a pipe or device: write it to a file first."
        raise ConfigurationError(msg)
    screen = progress_screen()
    known = journal if journal is not None and journal.exists() else None
    with screen.waiting("Checking the manifest"):
        return run(check(manifest, timeout, known, lambda row: screen.say(_bad(row))))


def _bad(row: InvalidRow) -> str:
    job = "" if row.job_id is None else f" (job {row.job_id})"
    return f"Line {row.line}{job}: {row.reason}"


def _say_changed(known: set[int], row: InvalidRow) -> None:
    if row.line not in known:
        warn(f"Left out, since it changed meanwhile: {_bad(row)}")


def _tell(journal: Path, out: Path, told: Told, *, bad: list[InvalidRow] | None) -> None:
    outcomes = told.outcomes
    if course().for_program:
        document: dict[str, object] = {
            "total": outcomes.total,
            "outcomes": outcomes.document(),
            "in_doubt": outcomes.doubtful,
            "bytes_sent": told.sent,
            "seconds": round(told.seconds, 3),
            "out": str(out),
        }
        if bad is not None:
            document["bad_rows"] = [{"line": row.line, "job_id": row.job_id, "reason": row.reason} for row in bad]
        print_json(document)
        return
    _table(outcomes)
    screen = progress_screen()
    skipped = f", {len(bad)} bad rows left out" if bad else ""
    screen.say(f"{outcomes.total} jobs in {told.seconds:.1f} s{skipped}; {megabytes(told.sent)} sent.")
    _ask(journal, outcomes)
    if outcomes.is_submission and outcomes.exit is Exit.DONE:
        screen.say("For the decisions: " + again(f"batch collect {_files(journal, out)}", None))
    elif outcomes.exit is not Exit.DONE:
        screen.say(course().advice)


def _table(outcomes: Outcomes) -> None:
    result_screen().table(("state", "status or error", "jobs"), outcomes.rows(), title="Jobs")


def _ask(journal: Path, outcomes: Outcomes) -> None:
    """Name what is in doubt, with what settles it."""
    if not outcomes.doubtful:
        return
    screen = progress_screen()
    screen.say(
        "In doubt: a session may have been created for these, and no answer came. Look for their vendor_data, then"
    )
    for job_id in outcomes.doubtful:
        job = f"-- {_quoted(job_id)}" if job_id.startswith("-") else _quoted(job_id)
        screen.say("  " + again(f"batch settle --journal {_quoted(journal)} --session ID {job}", None))
    more = outcomes.in_doubt - len(outcomes.doubtful)
    screen.say(
        "with --recreate instead of --session ID where there is none." + (f" {more} more are like these." * bool(more))
    )


def _files(journal: Path, out: Path) -> str:
    return f"--journal {_quoted(journal)} --out {_quoted(out)}"


def _quoted(word: object) -> str:
    return shlex.quote(str(word))
