"""How much memory the files that wait to be sent may take."""

from __future__ import annotations

from threading import RLock

__all__ = ("MemoryBudget", "Reservation")


class Reservation:
    """Bytes of a `MemoryBudget`, which are returned by `release`, or when nothing refers to them any more."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: MemoryBudget, size: int) -> None:
        """Record what was taken from a budget."""
        self._budget = budget
        self._size = size

    def release(self) -> None:
        """Return the bytes; a second call does nothing."""
        size, self._size = self._size, 0
        self._budget.add(size)

    def __del__(self) -> None:
        """Return the bytes."""
        self.release()


class MemoryBudget:
    """Bytes of files that may be held in memory, shared by the threads that read them."""

    def __init__(self, size: int, *, largest: int) -> None:
        """Begin with a whole budget.

        Args:
            size: Most bytes that are held at once.
            largest: Most bytes of one file.
        """
        self._left = size
        self._largest = largest
        # Reentrant, because the collection of a source may interrupt the thread that has it.
        self._lock = RLock()

    def reserve(self, size: int) -> Reservation | None:
        """Take bytes for one file before it is read, or return ``None`` if it may not be held."""
        with self._lock:
            return self.take(size) if size <= min(self._largest, self._left) else None

    def take(self, size: int) -> Reservation:
        """Take bytes for something that is in memory in any case."""
        self.add(-size)
        return Reservation(self, size)

    def add(self, size: int) -> None:
        """Return bytes; `Reservation` calls it."""
        with self._lock:
            self._left += size
