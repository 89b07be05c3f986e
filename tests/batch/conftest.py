"""The servers for the journals."""

from tests.servers import RedisServer, redis_server, running_server

__all__ = ("RedisServer", "redis_server", "running_server")
