"""Where verified events are kept and sleeping coroutines are woken: floor 2, beside the transport.

`MemoryInbox` for one process, `SqliteInbox` for the processes of one machine, `RedisInbox` for many machines, and
`Inbox` for one of your own.
"""

from typing import TYPE_CHECKING

from veriff_async._lazy import attach

if TYPE_CHECKING:
    from veriff_async.config import Retention as Retention
    from veriff_async.inbox._protocol import Inbox as Inbox
    from veriff_async.inbox.memory import MemoryInbox as MemoryInbox
    from veriff_async.inbox.redis import RedisInbox as RedisInbox
    from veriff_async.inbox.sqlite import SqliteInbox as SqliteInbox
    from veriff_async.models.state import Ignored as Ignored, Recorded as Recorded, SessionState as SessionState
else:
    __getattr__, __dir__, __all__ = attach(
        __name__,
        {
            "config": "Retention",
            "inbox._protocol": "Inbox",
            "inbox.memory": "MemoryInbox",
            "inbox.redis": "RedisInbox",
            "inbox.sqlite": "SqliteInbox",
            "models.state": "Ignored Recorded SessionState",
        },
    )
