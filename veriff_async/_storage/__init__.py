"""SQLite and Redis plumbing that inboxes and journals share."""
