"""Batches: many verifications, with a journal from which a run resumes after a crash.

`verify_many` runs everything in one process, `submit_many` and `collect_many` separate submitting from waiting, and
`verify_one` is for the workers of a task queue.
"""

from typing import TYPE_CHECKING

from veriff_async._lazy import attach

if TYPE_CHECKING:
    from veriff_async.batch._api import (
        collect_many as collect_many,
        resolve_unknown as resolve_unknown,
        submit_many as submit_many,
        verify_many as verify_many,
        verify_one as verify_one,
    )
    from veriff_async.batch._job_runner import OnUnknown as OnUnknown
    from veriff_async.batch._plan import BatchPlan as BatchPlan, plan_many as plan_many
    from veriff_async.batch._rate_limit import RateLimits as RateLimits
    from veriff_async.batch._records import (
        FileFingerprint as FileFingerprint,
        JobFailure as JobFailure,
        JobRecord as JobRecord,
        JobState as JobState,
        MediaRecord as MediaRecord,
        dump_record as dump_record,
        load_record as load_record,
    )
    from veriff_async.batch._runner import BatchProgress as BatchProgress
    from veriff_async.batch._session_limits import SessionLimits as SessionLimits, SessionUsage as SessionUsage
    from veriff_async.batch.job import Job as Job, JobResult as JobResult
    from veriff_async.batch.journal import ErasableJournal as ErasableJournal, Journal as Journal
    from veriff_async.batch.manifest import (
        InvalidRow as InvalidRow,
        ManifestRow as ManifestRow,
        read_manifest as read_manifest,
    )
    from veriff_async.batch.memory import MemoryJournal as MemoryJournal
    from veriff_async.batch.postgres import PostgresJournal as PostgresJournal
    from veriff_async.batch.redis import RedisJournal as RedisJournal
    from veriff_async.batch.sqlite import SqliteJournal as SqliteJournal
else:
    __getattr__, __dir__, __all__ = attach(
        __name__,
        {
            "batch._api": "collect_many resolve_unknown submit_many verify_many verify_one",
            "batch._job_runner": "OnUnknown",
            "batch._plan": "BatchPlan plan_many",
            "batch._rate_limit": "RateLimits",
            "batch._records": "FileFingerprint JobFailure JobRecord JobState MediaRecord dump_record load_record",
            "batch._runner": "BatchProgress",
            "batch._session_limits": "SessionLimits SessionUsage",
            "batch.job": "Job JobResult",
            "batch.journal": "ErasableJournal Journal",
            "batch.manifest": "InvalidRow ManifestRow read_manifest",
            "batch.memory": "MemoryJournal",
            "batch.postgres": "PostgresJournal",
            "batch.redis": "RedisJournal",
            "batch.sqlite": "SqliteJournal",
        },
    )
