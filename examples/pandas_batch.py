"""Verify the people of a table with pandas, and write a table of results; start it again after a crash, and it resumes.

Install: pip install veriff-async pandas        for CSV; also pyarrow for Parquet, openpyxl for Excel
Run it:  python pandas_batch.py people.csv results.csv
Settings: the variables of VeriffClient.from_env()

The table has the columns

    id           your own id of the person, which Veriff returns with the decision
    front, face  files of pictures; a relative name begins at the folder of the table
    first_name, last_name, back
                 optional

and the results have those of `COLUMNS`, one row for each row of the table, in its order. A person without a decision
after 15 minutes has an error: start the program again later. The journal, results.csv.journal, makes that safe: no
second session is created, and nothing is uploaded twice. Journal and results are as confidential as the table.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path

import pandas as pd

from veriff_async import InvalidArgumentError, Media, Person, VeriffClient
from veriff_async.batch import BatchProgress, Job, JobResult, SqliteJournal, verify_many

COLUMNS = {
    "id": "string",
    "status": "string",  # approved, declined, resubmission_requested, expired, ...; empty without a decision
    "reason_code": "Int64",
    "reason": "string",  # Veriff's words
    "decision_time": "datetime64[us, UTC]",
    "session_id": "string",
    "error": "string",  # why there is no decision; the program may be started again
}
"""The columns of the results with their types, the same for any result, so that later programs can rely on them."""

PICTURES = {"front": "document-front", "back": "document-back", "face": "face"}


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV, Parquet or Excel file; all values are texts, because an id such as 007 is not a number."""
    match path.suffix.lower():
        case ".parquet":
            table = pd.read_parquet(path)
        case ".xlsx":
            table = pd.read_excel(path, dtype=str)
        case _:
            table = pd.read_csv(path, dtype=str)
    missing = {"id", "front", "face"} - set(table.columns)
    if missing:
        msg = f"{path.name} has no column {', '.join(sorted(missing))}."
        raise SystemExit(msg)
    table = table.astype("string")
    if table["id"].isna().any() or table["id"].duplicated().any():
        msg = f"{path.name}: each row needs an id of its own."  # the journal finds a person by it
        raise SystemExit(msg)
    return table


def write_table(results: pd.DataFrame, path: Path) -> None:
    """Write the results as the name of the file says."""
    match path.suffix.lower():
        case ".parquet":
            results.to_parquet(path, index=False)
        case ".xlsx":
            # Excel has no time zones.
            results.assign(decision_time=results["decision_time"].dt.tz_localize(None)).to_excel(path, index=False)
        case _:
            results.to_csv(path, index=False)


def make_jobs(table: pd.DataFrame, folder: Path) -> tuple[list[Job], list[dict[str, object]]]:
    """Return a job for each row, and a result for each row that cannot be one."""
    jobs, invalid = list[Job](), list[dict[str, object]]()
    for row in table.to_dict("records"):
        values = {str(name): str(value) for name, value in row.items() if not pd.isna(value)}
        person = Person(first_name=values.get("first_name"), last_name=values.get("last_name"))
        media = [Media(folder / values[column], context) for column, context in PICTURES.items() if column in values]
        try:
            jobs.append(Job(values["id"], media, person=person))
        except InvalidArgumentError as error:
            invalid.append({"id": values["id"], "error": f"{type(error).__name__}: {error}"})
    return jobs, invalid


def to_row(result: JobResult) -> dict[str, object]:
    """Return a row of the results."""
    row: dict[str, object] = {"id": result.job_id, "session_id": result.session_id}
    if result.error is not None:
        # The library's messages contain no personal data.
        row["error"] = f"{type(result.error).__name__}: {result.error}"
    if result.decision is not None:
        row |= {
            "status": str(result.decision.status),
            "reason_code": result.decision.reason_code,
            "reason": result.decision.reason,
            "decision_time": result.decision.decision_time,
        }
    return row


def to_table(rows: list[dict[str, object]], ids: pd.Series) -> pd.DataFrame:
    """Return the results in the order of the ids, with all columns; a person without a result has only an id."""
    results = pd.DataFrame(rows, columns=list(COLUMNS)).set_index("id").reindex(ids).rename_axis("id").reset_index()
    return results.assign(decision_time=pd.to_datetime(results["decision_time"], utc=True)).astype(COLUMNS)


def show(progress: BatchProgress, total: int) -> None:
    """Show the progress in one line of the terminal."""
    state = "Veriff cannot be reached" if progress.paused else f"{progress.waiting} wait for a decision"
    line = f"{progress.decided} of {total} decided, {progress.failed + progress.unknown} failed, {state}"
    print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)


async def verify_table(table: pd.DataFrame, folder: Path, journal: Path) -> pd.DataFrame:
    """Verify the people of a table, and return the results."""
    jobs, rows = make_jobs(table, folder)
    async with SqliteJournal(journal) as saved, VeriffClient.from_env() as veriff:
        # A failed job is tried again, because its pictures may be better now. A finished one comes from the journal.
        results = verify_many(
            veriff, jobs, journal=saved, retry_failed=True, progress=lambda progress: show(progress, len(table))
        )
        async with aclosing(results):  # Ctrl-C waits for requests that must not be lost
            async for result in results:
                rows.append(to_row(result))
    return to_table(rows, table["id"])


def main(source: Path, target: Path) -> None:
    """Read, verify and write."""
    if source.resolve() == target.resolve():
        msg = "Give the results a file of their own: they would replace the table."
        raise SystemExit(msg)
    table = read_table(source)
    results = asyncio.run(verify_table(table, source.parent, target.with_name(f"{target.name}.journal")))
    write_table(results, target)
    print(file=sys.stderr)
    print(results["status"].fillna("without a decision").value_counts().to_string(header=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
