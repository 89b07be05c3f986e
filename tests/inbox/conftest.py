"""The servers for the inboxes."""

from tests.postgres_server import PostgresDatabase, durable_postgres, postgres, running_postgres
from tests.servers import RedisServer, redis_replica, redis_server, running_server, single_redis_server

__all__ = (
    "PostgresDatabase",
    "RedisServer",
    "durable_postgres",
    "postgres",
    "redis_replica",
    "redis_server",
    "running_postgres",
    "running_server",
    "single_redis_server",
)
