"""The only place that knows aiohttp and files: the pool, the sources of media, one exchange."""
