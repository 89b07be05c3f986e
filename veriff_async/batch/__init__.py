"""Many verifications at once, with a journal: floor 4, above the client.

Nothing lives here yet.
"""
