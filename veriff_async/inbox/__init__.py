"""Inboxes record verified events and wake the coroutines that wait for them.

Use `MemoryInbox` for one process, `SqliteInbox` for the processes of one machine, `RedisInbox` or `PostgresInbox` for
many machines, or your own implementation of `Inbox`.
"""

from typing import TYPE_CHECKING

from veriff_async._lazy import attach

if TYPE_CHECKING:
    from veriff_async._protocol.session_state import (
        apply_event as apply_event,
        dump_state as dump_state,
        load_state as load_state,
    )
    from veriff_async._protocol.webhook import dump_event as dump_event, load_event as load_event
    from veriff_async.config import Retention as Retention
    from veriff_async.inbox._operations import (
        StoredEvent as StoredEvent,
        export_events as export_events,
        iter_events as iter_events,
        iter_sessions as iter_sessions,
        requeue_events as requeue_events,
        retry_dead as retry_dead,
    )
    from veriff_async.inbox._protocol import (
        DeliveryInbox as DeliveryInbox,
        ErasableInbox as ErasableInbox,
        Inbox as Inbox,
        SearchableInbox as SearchableInbox,
        SubmissionInbox as SubmissionInbox,
        TransactionalInbox as TransactionalInbox,
    )
    from veriff_async.inbox._replay import ReplayedEvent as ReplayedEvent, replay_events as replay_events
    from veriff_async.inbox.memory import MemoryInbox as MemoryInbox
    from veriff_async.inbox.postgres import PostgresInbox as PostgresInbox
    from veriff_async.inbox.redis import RedisInbox as RedisInbox
    from veriff_async.inbox.sqlite import SqliteInbox as SqliteInbox
    from veriff_async.models.delivery import (
        Delivery as Delivery,
        DeliveryOutcome as DeliveryOutcome,
        DeliveryRecord as DeliveryRecord,
        DeliveryStatus as DeliveryStatus,
    )
    from veriff_async.models.inbox_search import (
        InboxStatistics as InboxStatistics,
        SessionPage as SessionPage,
        SessionSearch as SessionSearch,
        SessionSummary as SessionSummary,
    )
    from veriff_async.models.state import (
        IgnoredReason as IgnoredReason,
        RecordResult as RecordResult,
        SessionState as SessionState,
    )
else:
    __getattr__, __dir__, __all__ = attach(
        __name__,
        {
            "_protocol.session_state": "apply_event dump_state load_state",
            "_protocol.webhook": "dump_event load_event",
            "config": "Retention",
            "inbox._operations": ("StoredEvent export_events iter_events iter_sessions requeue_events retry_dead"),
            "inbox._replay": "ReplayedEvent replay_events",
            "inbox._protocol": "DeliveryInbox ErasableInbox Inbox SearchableInbox SubmissionInbox TransactionalInbox",
            "inbox.memory": "MemoryInbox",
            "inbox.postgres": "PostgresInbox",
            "inbox.redis": "RedisInbox",
            "inbox.sqlite": "SqliteInbox",
            "models.delivery": "Delivery DeliveryOutcome DeliveryRecord DeliveryStatus",
            "models.inbox_search": "InboxStatistics SessionPage SessionSearch SessionSummary",
            "models.state": "IgnoredReason RecordResult SessionState",
        },
    )
