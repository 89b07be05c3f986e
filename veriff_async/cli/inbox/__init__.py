"""The inbox commands: find, show, export, replay and repair what an inbox has recorded."""
