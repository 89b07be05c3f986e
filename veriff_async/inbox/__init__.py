"""Where verified events are kept and sleeping coroutines are woken: floor 2, beside the transport.

`MemoryInbox` for one process, `SqliteInbox` for the processes of one machine, `RedisInbox` for many machines, and
`Inbox` for one of your own.
"""

from typing import TYPE_CHECKING

from veriff_async.late import late

if TYPE_CHECKING:
    from veriff_async.inbox.inbox import Inbox
    from veriff_async.inbox.memory import MemoryInbox
    from veriff_async.inbox.redis import RedisInbox
    from veriff_async.inbox.sqlite import SqliteInbox
    from veriff_async.models.state import Ignored, Recorded, SessionState
    from veriff_async.protocol.policies import Retention

__all__ = (
    "Ignored",
    "Inbox",
    "MemoryInbox",
    "Recorded",
    "RedisInbox",
    "Retention",
    "SessionState",
    "SqliteInbox",
)

_HOMES = {
    "inbox.inbox": "Inbox",
    "inbox.memory": "MemoryInbox",
    "inbox.redis": "RedisInbox",
    "inbox.sqlite": "SqliteInbox",
    "models.state": "Ignored Recorded SessionState",
    "protocol.policies": "Retention",
}
"""Where names live; they are loaded when they are first used, since redis is an extra."""

if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of ours
    __getattr__ = late(__name__, globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
