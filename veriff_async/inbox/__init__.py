"""Where verified events are kept and sleeping coroutines are woken: floor 2, beside the transport.

`MemoryInbox` for one process, `SqliteInbox` for the processes of one machine, `RedisInbox` for many machines, and
`Inbox` for one of your own.
"""

from importlib import import_module
from typing import TYPE_CHECKING

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

_HOME_OF = {
    "Ignored": "models.state",
    "Inbox": "inbox.inbox",
    "MemoryInbox": "inbox.memory",
    "Recorded": "models.state",
    "RedisInbox": "inbox.redis",
    "Retention": "protocol.policies",
    "SessionState": "models.state",
    "SqliteInbox": "inbox.sqlite",
}
"""Where names live; they are loaded when they are first used, since redis is an extra."""


if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        value: object = getattr(import_module(f"veriff_async.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
