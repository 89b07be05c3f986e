"""The servers for the journals."""

from tests.servers import RedisServer, redis_replica, redis_server, running_server, single_redis_server

__all__ = ("RedisServer", "redis_replica", "redis_server", "running_server", "single_redis_server")
