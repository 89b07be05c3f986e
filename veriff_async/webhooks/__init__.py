"""Receivers of webhooks, one small file for each framework: floor 3, above the inbox.

Nothing lives here yet: `veriff_async.protocol.events.parse_webhook` verifies and reads what Veriff posts.
"""
