"""The batch commands: many verifications from a manifest, with a journal from which an interrupted run resumes."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn, get_args

import click
from attrs import evolve

from veriff_async import ConfigurationError
from veriff_async._protocol.counts import format_count
from veriff_async.batch import OnUnknown
from veriff_async.cli._env_file import create_client, load_settings
from veriff_async.cli._options import (
    FILE,
    Seconds,
    check_quality_option,
    env_file_option,
    inbox_option,
    json_option,
    limit_options,
    load_thresholds,
    outage_option,
    poll_rate_option,
    proxy_option,
    require_check_quality,
    show_person_option,
    thresholds_option,
    timeout_option,
    use_proxy,
)
from veriff_async.cli._output import megabytes
from veriff_async.cli._runtime import (
    ExitCode,
    command_line,
    current_command,
    print_json,
    run,
    stderr_output,
    stdout_output,
    warn,
)
from veriff_async.cli.batch.manifest import check_manifest
from veriff_async.cli.batch.progress import format_duration
from veriff_async.cli.batch.runner import (
    count_jobs,
    existing_journal,
    resolve_job,
    run_batch,
    run_collection,
    start_plan,
)
from veriff_async.cli.batch.saved_options import RunLimits, SavedOptions, load_options, read_limits

if TYPE_CHECKING:
    from veriff_async import InspectionThresholds
    from veriff_async.batch import BatchPlan, InvalidRow
    from veriff_async.batch._plan import PlanBuilder
    from veriff_async.cli.batch.manifest import ManifestCheck
    from veriff_async.cli.batch.runner import RunSummary
    from veriff_async.cli.batch.summary import JobCounts

__all__ = ("batch",)

# A file that may be missing.
_NEW: Final = click.Path(dir_okay=False, path_type=Path)

_ON_UNKNOWN: Final = click.Choice(get_args(OnUnknown))


@click.group()
def batch() -> None:
    """Verify many people from a CSV or JSON Lines file.

    A journal records every step, so a batch that was stopped or killed resumes where it stopped.
    """


@batch.command("run")
@click.argument("manifest", type=FILE)
@click.option("--journal", type=_NEW, metavar="FILE", help="Journal of every step; created if missing.")
@click.option("--out", type=_NEW, metavar="FILE", help="Results are appended here, one JSON object per line.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Check rows, files and journal, show what a run would do and cost, and send nothing.",
)
@check_quality_option
@thresholds_option
@click.option("--skip-bad", is_flag=True, help="Skip invalid rows instead of sending nothing.")
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Jobs that are created, uploaded or submitted at the same time.",
)
@click.option(
    "--max-waiting",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Jobs that wait for their decision at the same time.",
)
@click.option(
    "--on-unknown",
    type=_ON_UNKNOWN,
    default="hold",
    show_default=True,
    help="Handling of a job whose creation got no response.",
)
@click.option("--retry-failed", is_flag=True, help="Retry jobs that failed permanently in an earlier run.")
@click.option("--submit-only", is_flag=True, help="Submit only; get the decisions with batch collect.")
@limit_options
@poll_rate_option
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
    dry_run: bool,
    check_quality: bool,
    thresholds: Path | None,
    skip_bad: bool,
    concurrency: int,
    max_waiting: int,
    on_unknown: OnUnknown,
    retry_failed: bool,
    submit_only: bool,
    max_sessions: int | None,
    max_per_hour: int | None,
    poll_rate: float | None,
    timeout: float,
    max_outage: float,
    inbox: Path | None,
    show_person: bool,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Verify all people in MANIFEST, a .csv or .jsonl file.

    Invalid rows are reported with their lines first, and then nothing is sent, unless --skip-bad is given. With
    --check-quality a row with a blurred or dark picture, for example, is invalid too. The exit
    code is 0 if every job is decided (or submitted, with --submit-only), 1 if some are not, 2 if rows are invalid, and
    5 if jobs are left because of --max-sessions.
    """
    require_check_quality(thresholds, check_quality=check_quality)
    limits = _limits(max_sessions, max_per_hour, poll_rate).or_else(read_limits(load_settings(env_file)))
    if dry_run:
        builder = run(start_plan(limits, journal, on_unknown=on_unknown, retry_failed=retry_failed))
        checked = _check(manifest, timeout, journal, load_thresholds(thresholds) if check_quality else None, builder)
        _print_plan(checked, builder.build(), for_program=for_program)
        raise SystemExit(ExitCode.USAGE if checked.invalid or not checked.total else ExitCode.DONE)
    if journal is None or out is None:
        msg = "Give --journal and --out, or --dry-run."
        raise click.UsageError(msg)
    options = SavedOptions(
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
        proxy=current_command().proxy,
        check_quality=check_quality,
        thresholds=thresholds,
        limits=limits,
    )
    _run_check(journal, options, retry_failed=retry_failed, max_outage=max_outage)


@batch.command("resume")
@click.option("--journal", type=FILE, required=True, metavar="FILE", help="The journal of the batch.")
@click.option("--out", type=_NEW, metavar="FILE", help="Results are appended here; default: the same file as before.")
@click.option("--on-unknown", type=_ON_UNKNOWN, help="See batch run; default: as before.")
@click.option("--retry-failed", is_flag=True, help="Retry jobs that failed permanently.")
@limit_options
@poll_rate_option
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
    max_sessions: int | None,
    max_per_hour: int | None,
    poll_rate: float | None,
    max_outage: float,
    env_file: Path | None,
    for_program: bool,  # noqa: ARG001  see CommandState
) -> None:
    """Resume a batch that was stopped or killed, or that has spent its sessions, with its manifest and options.

    Other limits than before may be given, and are used from now on.
    """
    options = load_options(journal)
    if options is None:
        msg = "The options of the batch are not next to the journal: repeat batch run with the manifest."
        raise ConfigurationError(msg)
    if current_command().proxy is None:
        use_proxy(options.proxy)
    env_file = env_file or options.env_file
    limits = _limits(max_sessions, max_per_hour, poll_rate).or_else(options.limits)
    options = evolve(
        options,
        out=out or options.out,
        proxy=current_command().proxy,
        on_unknown=on_unknown or options.on_unknown,
        env_file=env_file,
        limits=limits.or_else(read_limits(load_settings(env_file))),
    )
    if not options.manifest.exists():
        msg = "The manifest of the batch is missing: restore it, or use batch collect for the submitted jobs."
        raise ConfigurationError(msg)
    _run_check(journal, options, retry_failed=retry_failed, max_outage=max_outage)


@batch.command("collect")
@click.option("--journal", type=FILE, required=True, metavar="FILE", help="The journal of the batch.")
@click.option("--out", type=_NEW, required=True, metavar="FILE", help="Results are appended here.")
@click.option(
    "--max-waiting",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Jobs that wait for their decision at the same time.",
)
@click.option(
    "--timeout",
    type=Seconds(min=0),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="Time limit of each wait; 0 asks once.",
)
@poll_rate_option
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
    poll_rate: float | None,
    max_outage: float,
    inbox: Path | None,
    show_person: bool,
    env_file: Path | None,
    for_program: bool,
) -> None:
    """Collect the decisions on submitted jobs; the manifest is not needed.

    The exit code is 0 if all jobs are decided, 4 if some are not decided yet, and 1 after errors.
    """
    options = load_options(journal)
    env_file = env_file or (options.env_file if options else None)
    inbox = inbox or (options.inbox if options else None)
    limits = _limits(None, None, poll_rate).or_else(options.limits if options else RunLimits())
    limits = limits.or_else(read_limits(load_settings(env_file)))
    if current_command().proxy is None and options is not None:
        use_proxy(options.proxy)
    resume_hint = command_line(f"batch collect {_files(journal, out)}", env_file)
    current_command().set_resume_hint(f"To continue: {resume_hint}", command=resume_hint)
    work = run_collection(
        partial(create_client, env_file),
        inbox,
        journal,
        out,
        timeout=timeout,
        max_waiting=max_waiting,
        poll_rate=limits.poll_rate,
        max_outage=max_outage,
        show_person=show_person,
        quiet=for_program,
    )
    summary = run(work)
    _print_summary(journal, out, summary, bad=None)
    raise SystemExit(ExitCode.UNDECIDED if summary.counts.is_late else summary.counts.exit_code)


@batch.command("status")
@click.option("--journal", type=FILE, required=True, metavar="FILE", help="The journal of the batch.")
@json_option
def batch_status(*, journal: Path, for_program: bool) -> None:
    """Count the jobs of a journal by state, and the sessions that were created. A run may be using the journal."""
    counts, usage = run(count_jobs(journal))
    if for_program:
        document: dict[str, object] = {"total": counts.total, "outcomes": counts.document()}
        document |= {"unknown_jobs": counts.unknown_ids}
        print_json(document | {"sessions": {"total": usage.total, "last_hour": usage.last_hour}})
        return
    _print_counts(counts)
    stderr_output().print(
        f"Created {format_count(usage.total, 'session')}, {usage.last_hour} of them in the last hour."
    )
    _print_unknown(journal, counts)
    options = load_options(journal)
    if counts.exit_code is not ExitCode.DONE and options is not None:
        is_submitted = options.submit_only and counts.is_late
        words = f"collect {_files(journal, options.out)}" if is_submitted else f"resume --journal {_quote(journal)}"
        stderr_output().print(f"If no run is active, continue with: {command_line(f'batch {words}', None)}")


@batch.command("resolve")
@click.option("--journal", type=FILE, required=True, metavar="FILE", help="The journal of the batch.")
@click.option("--session", "session_id", metavar="ID", help="The session that was created for the job.")
@click.option("--recreate", is_flag=True, help="There is none: the next run creates one.")
@click.argument("job_id", metavar="JOB")
def batch_resolve(*, journal: Path, session_id: str | None, recreate: bool, job_id: str) -> None:
    """Record whether a creation without a response has created a session.

    Look for the job's vendor_data in the Customer Portal or in your webhooks; it is the id of the job unless the
    manifest gives another one.
    """
    if (session_id is None) is not recreate:
        msg = "Give either --session ID, or --recreate if no session was created."
        raise click.UsageError(msg)
    run(resolve_job(journal, job_id, session_id))
    stdout_output().print(
        f"Job {job_id} is resolved. To continue: {command_line(f'batch resume --journal {_quote(journal)}', None)}"
    )


def _run_check(journal: Path, options: SavedOptions, *, retry_failed: bool, max_outage: float) -> NoReturn:
    """Check a manifest, run its jobs, and print a summary."""
    connect = partial(create_client, options.env_file)
    connect()  # fails early if credentials are missing: checking files can take long
    thresholds = load_thresholds(options.thresholds) if options.check_quality else None
    checked = _check(options.manifest, options.timeout, journal, thresholds)
    if current_command().for_program and options.skip_bad:
        for row in checked.invalid:
            warn(_describe_row(row))
    if not checked.total or (checked.invalid and not options.skip_bad):
        if current_command().for_program:
            print_json(checked.document())
        else:
            verb = "is" if len(checked.invalid) == 1 else "are"
            reason = (
                f"{len(checked.invalid)} of {format_count(checked.total, 'row')} {verb} invalid"
                if checked.total
                else "The manifest has no rows"
            )
            stderr_output().print(f"{reason}, so nothing was sent: correct them, or skip them with --skip-bad.")
        raise SystemExit(ExitCode.USAGE)
    # Without ``--env-file``: `save_options` stores its path next to the journal.
    resume_hint = command_line(f"batch resume {_files(journal, options.out)}", None)
    current_command().set_resume_hint(f"To continue: {resume_hint}", command=resume_hint)
    work = run_batch(
        options,
        connect,
        journal,
        checked=checked,
        retry_failed=retry_failed,
        max_outage=max_outage,
        on_changed=_warn_changed,
        quiet=current_command().for_program,
    )
    summary = run(work)
    _print_summary(journal, options.out, summary, bad=checked.invalid)
    raise SystemExit(summary.counts.exit_code)


def _limits(max_sessions: int | None, max_per_hour: int | None, poll_rate: float | None) -> RunLimits:
    return RunLimits(max_sessions=max_sessions, max_per_hour=max_per_hour, poll_rate=poll_rate)


def _check(
    manifest: Path,
    timeout: float,
    journal: Path | None,
    thresholds: InspectionThresholds | None,
    plan: PlanBuilder | None = None,
) -> ManifestCheck:
    if not manifest.is_file():
        # Reading a pipe a second time would wait forever.
        msg = "The manifest is read more than once, so it cannot be a pipe or device: write it to a file first."
        raise ConfigurationError(msg)
    output = stderr_output()
    with output.status("Checking the manifest") as show:
        work = check_manifest(
            manifest,
            timeout,
            existing_journal(journal),
            lambda row: output.print(_describe_row(row)),
            thresholds=thresholds,
            plan=plan,
            on_progress=lambda checked: show(f"Checking the manifest: {format_count(checked.total, 'row')}"),
        )
        return run(work)


def _print_plan(checked: ManifestCheck, plan: BatchPlan, *, for_program: bool) -> None:
    names = ("new", "resumable", "finished", "unknown", "files", "bytes", "sessions", "left", "seconds")
    facts: dict[str, object] = {name: getattr(plan, name) for name in names}
    if for_program:
        print_json(checked.document() | facts)
        return
    del facts["bytes"], facts["seconds"]
    fields = {"rows": str(checked.total), "valid": str(checked.valid), **{name: str(facts[name]) for name in facts}}
    fields["size"] = megabytes(plan.bytes)
    if plan.seconds is not None:
        fields["time until the last session"] = format_duration(plan.seconds)
    stdout_output().print_fields("A run would do this; nothing was sent", dict(fields))


def _describe_row(row: InvalidRow) -> str:
    job = "" if row.job_id is None else f" (job {row.job_id})"
    return f"Line {row.line}{job}: {row.reason}"


def _warn_changed(row: InvalidRow) -> None:
    warn(f"Skipped, because it changed after the check: {_describe_row(row)}")


def _print_summary(journal: Path, out: Path, summary: RunSummary, *, bad: list[InvalidRow] | None) -> None:
    counts = summary.counts
    if current_command().for_program:
        document: dict[str, object] = {
            "total": counts.total,
            "outcomes": counts.document(),
            "unknown_jobs": counts.unknown_ids,
            "bytes_sent": summary.bytes_sent,
            "seconds": round(summary.seconds, 3),
            "out": str(out),
            "left": counts.left,
        }
        if bad is not None:
            document["invalid_rows"] = [{"line": row.line, "job_id": row.job_id, "reason": row.reason} for row in bad]
        print_json(document)
        return
    _print_counts(counts)
    output = stderr_output()
    skipped = f", {format_count(len(bad), 'invalid row')} skipped" if bad else ""
    jobs, size = format_count(counts.total, "job"), megabytes(summary.bytes_sent)
    output.print(f"{jobs} in {summary.seconds:.1f} s{skipped}; {size} sent.")
    _print_unknown(journal, counts)
    if counts.left:
        words = command_line(f"batch resume {_files(journal, out)} --max-sessions COUNT", None)
        left = format_count(counts.left, "job")
        output.print(f"All permitted sessions are created, with {left} left. To permit more: {words}")
        return
    if counts.is_submission and counts.exit_code is ExitCode.DONE:
        output.print("To get the decisions: " + command_line(f"batch collect {_files(journal, out)}", None))
    elif counts.exit_code is not ExitCode.DONE:
        output.print(current_command().resume_hint)


def _print_counts(counts: JobCounts) -> None:
    stdout_output().print_table(("state", "status or error", "jobs"), counts.rows(), title="Jobs")


def _print_unknown(journal: Path, counts: JobCounts) -> None:
    """List jobs in state ``unknown`` with the commands that resolve them."""
    if not counts.unknown_ids:
        return
    output = stderr_output()
    output.print(
        "Unknown: these jobs may have a session, but no response arrived. Look for their vendor_data, then run"
    )
    for job_id in counts.unknown_ids:
        # click would take an id that begins with a hyphen for an option.
        job = f"-- {_quote(job_id)}" if job_id.startswith("-") else _quote(job_id)
        output.print("  " + command_line(f"batch resolve --journal {_quote(journal)} --session ID {job}", None))
    more = counts.unknown_count - len(counts.unknown_ids)
    output.print(
        "with --recreate instead of --session ID if no session was created."
        + (f" {more} more are unknown." * bool(more))
    )


def _files(journal: Path, out: Path) -> str:
    return f"--journal {_quote(journal)} --out {_quote(out)}"


def _quote(word: object) -> str:
    return shlex.quote(str(word))
