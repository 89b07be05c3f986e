"""HTTP: the transport, its connection pool, and the pause that all calls share after a 429."""
