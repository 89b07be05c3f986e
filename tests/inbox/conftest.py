"""The servers for the inboxes."""

from tests.servers import RedisServer, one_server, redis_replica, redis_server, running_server

__all__ = ("RedisServer", "one_server", "redis_replica", "redis_server", "running_server")
