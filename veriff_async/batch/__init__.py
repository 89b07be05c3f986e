"""Many verifications at once, with a journal that survives a crash: floor 4.

`verify_many` does it all in one process; `submit_many` and `collect_many` part submitting from waiting; `verify_one` is
for the workers of a queue.
"""

from typing import TYPE_CHECKING

from veriff_async.late import late

if TYPE_CHECKING:
    from veriff_async.batch.course import OnUnknown
    from veriff_async.batch.job import Job, JobResult
    from veriff_async.batch.journal import Journal
    from veriff_async.batch.manifest import BadRow, Row, read_manifest
    from veriff_async.batch.many import collect_many, settle, submit_many, verify_many, verify_one
    from veriff_async.batch.memory import MemoryJournal
    from veriff_async.batch.pace import Pace
    from veriff_async.batch.record import Failure, JobRecord, MediaRecord, Stamp, Step
    from veriff_async.batch.redis import RedisJournal
    from veriff_async.batch.sqlite import SqliteJournal
    from veriff_async.batch.window import Progress

__all__ = (
    "BadRow",
    "Failure",
    "Job",
    "JobRecord",
    "JobResult",
    "Journal",
    "MediaRecord",
    "MemoryJournal",
    "OnUnknown",
    "Pace",
    "Progress",
    "RedisJournal",
    "Row",
    "SqliteJournal",
    "Stamp",
    "Step",
    "collect_many",
    "read_manifest",
    "settle",
    "submit_many",
    "verify_many",
    "verify_one",
)

_HOMES = {
    "batch.course": "OnUnknown",
    "batch.job": "Job JobResult",
    "batch.journal": "Journal",
    "batch.manifest": "BadRow Row read_manifest",
    "batch.many": "collect_many settle submit_many verify_many verify_one",
    "batch.memory": "MemoryJournal",
    "batch.pace": "Pace",
    "batch.record": "Failure JobRecord MediaRecord Stamp Step",
    "batch.redis": "RedisJournal",
    "batch.sqlite": "SqliteJournal",
    "batch.window": "Progress",
}
"""Where names live; they are loaded when they are first used, since redis is an extra."""

if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of ours
    __getattr__ = late(__name__, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
