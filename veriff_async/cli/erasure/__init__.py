"""The commands forget and retention: erase persons, and list what must be erased."""
