"""The servers for the storage."""

from tests.postgres_server import PostgresDatabase, durable_postgres, postgres, running_postgres

__all__ = ("PostgresDatabase", "durable_postgres", "postgres", "running_postgres")
