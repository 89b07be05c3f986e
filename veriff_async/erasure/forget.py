"""`forget` erases sessions everywhere, and `resume_erasures` continues what could not be done at once.

The order of steps makes a crash harmless at each of them:

    1. the queue stores the erasure, so that it continues after a crash
    2. every store erases the sessions; an inbox refuses their later webhooks from now on
    3. Veriff deletes them, as fast as its quota permits
    4. every store erases again: what arrived in between, and the time for which an inbox refuses webhooks begins again
    5. the queue deletes the ids, and keeps the receipt
"""

from __future__ import annotations

import asyncio
import logging
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from veriff_async._event_loop import is_being_cancelled, require_asyncio
from veriff_async._logging import log_fields
from veriff_async._protocol.arguments import LARGEST, check_instance, check_text, type_name
from veriff_async.erasure._queue_file import QueuedDeletion
from veriff_async.erasure._receipt import VeriffErasure
from veriff_async.erasure._stores import check_stores, find_session_ids
from veriff_async.erasure._time_limit import DEFAULT_STORE_TIMEOUT, StoreTimeout, call_store, check_store_timeout
from veriff_async.erasure.queue import ErasureQueue
from veriff_async.errors import (
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    ErasureError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    VeriffError,
)
from veriff_async.models.inbox_search import SessionSearch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from veriff_async.client import VeriffClient
    from veriff_async.erasure._queue_file import QueuedErasure
    from veriff_async.erasure._receipt import ErasureReceipt
    from veriff_async.erasure._stores import ErasableStore

__all__ = ("forget", "resume_erasures")

_LOG: Final = logging.getLogger("veriff_async.erasure")

# Codes with which Veriff refuses to delete a session that is not decided yet; see `VerificationSession.delete`.
_NOT_DECIDED: Final = ("1305", "1306")

# Seconds until a session is tried again that is not decided, and until anything is tried again after an error.
_NOT_DECIDED_DELAY: Final = 3600.0
_ERROR_DELAY: Final = 300.0

# Seconds of a pause after Veriff has refused for the quota, which other programs may have used. Veriff documents no
# header that says when it ends.
_QUOTA_PAUSE: Final = 3600.0

# Errors of every deletion, until a person acts.
_UNSOLVABLE: Final = (
    AuthenticationError,
    PermissionDeniedError,
    ClientClosedError,
    ConfigurationError,
    InvalidArgumentError,
)

# The name of Veriff among the problems of a receipt.
_VERIFF: Final = "veriff"


async def forget(  # noqa: PLR0913  who, and where
    session_id: str | None = None,
    *,
    queue: ErasureQueue,
    vendor_data: str | None = None,
    end_user_id: str | None = None,
    client: VeriffClient | None = None,
    stores: Mapping[str, ErasableStore] | Iterable[ErasableStore] = (),
    store_timeout: float = DEFAULT_STORE_TIMEOUT,
    wait: bool = False,
) -> ErasureReceipt:
    """Erase a session, or all sessions of a person, at Veriff and in your stores.

    The stores erase at once. Veriff permits five deletions an hour and ten a day, so `forget` sends what the quota
    permits, and `resume_erasures` the rest: run it every hour, for example, until ``receipt.is_complete``. A failed
    step is in ``receipt.problems`` and is tried again, too. The person's data in your own tables, and in backups, is
    yours to erase.

    Args:
        session_id: The session.
        queue: Keeps the progress and the receipt.
        vendor_data: The sessions with this value, instead of `session_id`, as the inboxes among the stores know them.
        end_user_id: Likewise.
        client: Deletes at Veriff; ``None`` leaves Veriff out.
        stores: Inboxes, journals, `SessionFiles`, `ResultsFile`, and stores of your own, with names for the receipt:
            ``{"inbox": inbox, "downloads": SessionFiles("downloads/{session_id}")}``. A list takes the names of the
            classes.
        store_timeout: Seconds in which a store must erase, or find the sessions of a person. A store that takes longer
            has failed, and the others are erased: the receipt names it, and `resume_erasures` asks it again.
        wait: Whether to wait for Veriff's quota, which may take days. A call that is cancelled continues with
            `resume_erasures`.

    Returns:
        The receipt, so far.

    Raises:
        InvalidArgumentError: None or several of `session_id`, `vendor_data` and `end_user_id` are given, a store cannot
            erase, no store is an inbox that can search, or `store_timeout` is not above zero.
        InboxError: An inbox cannot be searched, or not in time; nothing was begun.
        ErasureError: The queue cannot be used. Call it again: every step may be repeated.

    Example:
        >>> async with ErasureQueue("erasures.db") as queue:
        ...     receipt = await forget(session.id, queue=queue, client=veriff, stores={"inbox": inbox})

    See https://devdocs.veriff.com/apidocs/v1sessionsid-3.
    """
    _check_queue(queue)
    named, seconds = check_stores(stores), check_store_timeout(store_timeout)
    given = [value for value in (session_id, vendor_data, end_user_id) if value is not None]
    if len(given) != 1 or not check_text(
        "session_id, vendor_data or end_user_id", given[0], error=InvalidArgumentError
    ):
        msg = "forget() needs exactly one of session_id, vendor_data and end_user_id: pass one of them as text."
        raise InvalidArgumentError(msg)
    if session_id is not None:
        _check_id(session_id)
        ids = [session_id]
    else:
        search = SessionSearch(vendor_data=vendor_data, end_user_id=end_user_id)
        ids = await find_session_ids(named, search, store_timeout=seconds)
    _check_ids_of(client, ids)
    erasure_id = await queue.steps.add(ids, named, integration=_integration_of(client))
    await _Runner(queue, client, named, seconds).run(wait=wait, only=erasure_id)
    return await queue.get_receipt(erasure_id)


async def forget_each(
    session_ids: Sequence[str],
    *,
    queue: ErasureQueue,
    client: VeriffClient | None,
    stores: Mapping[str, ErasableStore],
    store_timeout: float,
) -> Sequence[ErasureReceipt]:
    """Erase sessions with a receipt for each; see `forget`.

    Unlike several calls of `forget`, this waits only once for a store that hangs.
    """
    for each in session_ids:
        _check_id(each)
    _check_ids_of(client, session_ids)
    erasures = [await queue.steps.add([each], stores, integration=_integration_of(client)) for each in session_ids]
    await _Runner(queue, client, stores, store_timeout).run(wait=False)
    return [await queue.get_receipt(erasure_id) for erasure_id in erasures]


async def resume_erasures(  # noqa: PLR0913  where, and how
    queue: ErasureQueue,
    *,
    client: VeriffClient | None = None,
    stores: Mapping[str, ErasableStore] | Iterable[ErasableStore] = (),
    store_timeout: float = DEFAULT_STORE_TIMEOUT,
    wait: bool = False,
    on_progress: Callable[[ErasureReceipt], object] | None = None,
) -> Sequence[ErasureReceipt]:
    """Continue all erasures of a queue that are not complete, the oldest first.

    Args:
        queue: The queue.
        client: The client of the integration; erasures of other integrations wait for theirs.
        stores: The stores that the erasures were started with, by the same names. One that is missing stays a problem
            of its erasure.
        store_timeout: Seconds in which a store must erase; see `forget`. A store that was too slow for one erasure is
            asked for the others in the next call.
        wait: Whether to wait for Veriff's quota until all are complete, or until only problems are left that waiting
            does not solve.
        on_progress: Called with the receipt of an erasure after each deletion at Veriff and when it is complete.

    Returns:
        The receipts of the erasures that were not complete, the oldest first.

    Raises:
        InvalidArgumentError: A store cannot erase, or `store_timeout` is not above zero.
        ErasureError: The queue cannot be used.
    """
    _check_queue(queue)
    named, seconds = check_stores(stores), check_store_timeout(store_timeout)
    erasures = await queue.steps.get_open()
    await _Runner(queue, client, named, seconds, on_progress).run(wait=wait)
    return [await queue.get_receipt(erasure_id) for erasure_id in erasures]


@frozen
class _Runner:
    """Does the steps of all erasures of a queue."""

    queue: ErasureQueue
    client: VeriffClient | None
    stores: Mapping[str, ErasableStore]
    store_timeout: float
    on_progress: Callable[[ErasureReceipt], object] | None = None
    refused: set[QueuedDeletion] = field(factory=set[QueuedDeletion], init=False)
    # Stores that were too slow for an erasure. They are not asked again, or many erasures would wait for them in turn.
    slow: dict[str, str] = field(factory=dict[str, str], init=False)

    async def run(self, *, wait: bool, only: str | None = None) -> None:
        """Do the steps that can be done now; with `wait`, all.

        Args:
            wait: Whether to wait for Veriff's quota.
            only: The erasure to wait for; all if ``None``.
        """
        await self._erase_in_stores(again=False)
        while self.client is not None:
            # Also those of other erasures: the oldest deletion comes first, and the quota is the same.
            due = await self._delete_at_veriff(self.client)
            if due is None or not wait or not await self._is_worth_waiting(self.client, only):
                break
            await asyncio.sleep(max(0.0, due - self.queue.steps.now()))
            self.slow.clear()
        await self._erase_in_stores(again=True)
        for erasure in await self.queue.steps.get_to_visit(again=True):
            if await self.queue.steps.complete(erasure.erasure_id):
                await self._report(erasure.erasure_id)

    async def _erase_in_stores(self, *, again: bool) -> None:
        """Erase in the stores that were not visited yet; again in all stores, once Veriff has deleted."""
        for erasure in await self.queue.steps.get_to_visit(again=again):
            for name, visits in erasure.stores.items():
                store = self.stores.get(name)
                if visits > again:
                    continue
                if store is None:
                    text = "The store was not passed: resume the erasure with a store of this name."
                    await self.queue.steps.save_problem(erasure.erasure_id, name, text)
                elif name in self.slow:
                    if self.slow[name] == erasure.erasure_id:
                        continue  # its problem is stored
                    text = "The store was not asked, since it was too slow for another erasure: resume this one later."
                    await self.queue.steps.save_problem(erasure.erasure_id, name, text)
                elif not await self._erase(erasure, name, store, again=again):
                    self.slow[name] = erasure.erasure_id

    async def _erase(self, erasure: QueuedErasure, name: str, store: ErasableStore, *, again: bool) -> bool:
        """Erase in a store; return whether it has ended in time."""
        is_in_time = True
        try:
            erased = await call_store(_erase_in_store(store, erasure.session_ids), self.store_timeout)
        except (Exception, asyncio.CancelledError) as error:  # a user's store may raise anything; the others must erase
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            is_in_time = not isinstance(error, StoreTimeout)
            text = _describe(error if is_in_time else self._timeout_error(name))
            _LOG.warning("A store did not erase: %s", text, extra=log_fields(error=type(error).__name__, cause=text))
            await self.queue.steps.save_problem(erasure.erasure_id, name, text)
        else:
            await self.queue.steps.save_store(erasure.erasure_id, name, erased, again=again)
        return is_in_time

    def _timeout_error(self, name: str) -> ErasureError:
        return ErasureError(
            f"The store {name} has not erased within {self.store_timeout:g} seconds: check whether it can be reached, "
            "or give it more time with store_timeout, and resume the erasure."
        )

    async def _delete_at_veriff(self, client: VeriffClient) -> float | None:
        """Delete what the quota permits; return when the next deletion may be sent, or ``None`` if none waits."""
        integration = _integration_of(client)
        while True:
            reserved = await self.queue.steps.reserve_deletion(integration)
            if not isinstance(reserved, QueuedDeletion):
                return reserved
            can_continue = await self._delete(client, reserved)
            await self._report(reserved.erasure_id)
            if not can_continue:
                return None

    async def _delete(self, client: VeriffClient, deletion: QueuedDeletion) -> bool:
        """Delete a session at Veriff, and store the outcome; return whether another one may succeed."""
        state, delay, pause, problem, can_continue = VeriffErasure.DELETED, 0.0, 0.0, None, True
        try:
            await client.session(deletion.session_id).delete()
        except NotFoundError:
            state = VeriffErasure.UNKNOWN
        except RateLimitedError:
            state, pause = VeriffErasure.WAITING, _QUOTA_PAUSE
        except _UNSOLVABLE as error:  # waiting does not help: a person must act
            state, problem, can_continue = VeriffErasure.WAITING, _describe(error), False
        except BadRequestError as error:
            state, delay = VeriffErasure.WAITING, _NOT_DECIDED_DELAY
            if error.code not in _NOT_DECIDED:
                problem = _describe(error)
                self.refused.add(deletion)
        except VeriffError as error:
            state, pause, problem = VeriffErasure.WAITING, _ERROR_DELAY, _describe(error)
        await self.queue.steps.save_deletion(deletion, state, delay=delay, pause=pause)
        await self.queue.steps.save_problem(deletion.erasure_id, _VERIFF, problem)
        return can_continue

    async def _is_worth_waiting(self, client: VeriffClient, only: str | None) -> bool:
        """Return whether a deletion waits that Veriff has not refused for a reason that time does not change."""
        waiting = await self.queue.steps.get_waiting(_integration_of(client), only)
        return any(deletion not in self.refused for deletion in waiting)

    async def _report(self, erasure_id: str) -> None:
        if self.on_progress is not None:
            self.on_progress(await self.queue.get_receipt(erasure_id))


def _check_id(session_id: str) -> None:
    if not session_id.isprintable():
        msg = "session_id contains a character that no id has: pass the id as Veriff wrote it."
        raise InvalidArgumentError(msg)


def _check_ids_of(client: VeriffClient | None, session_ids: Sequence[str]) -> None:
    """Refuse an id that Veriff cannot have issued, before anything is begun."""
    if client is not None:
        for session_id in session_ids:
            client.session(session_id)


def _check_queue(queue: object) -> None:
    require_asyncio()
    check_instance("queue", queue, ErasureQueue, remedy='pass ErasureQueue("erasures.db")', error=InvalidArgumentError)


def _integration_of(client: VeriffClient | None) -> str:
    """Return the digest of a client's API key, by which the queue counts its quota."""
    return "" if client is None else sha256(client.credentials.api_key.encode()).hexdigest()[:16]


async def _erase_in_store(store: ErasableStore, session_ids: Collection[str]) -> int:
    return _check_count(await store.erase(session_ids))


def _check_count(erased: object) -> int:
    """Return what a store has returned, which may be a user's own.

    Raises:
        InvalidArgumentError: It is not a number of items.
    """
    if isinstance(erased, int) and not isinstance(erased, bool) and 0 <= erased <= LARGEST:
        return erased
    kind = f"this {type_name(erased)}" if isinstance(erased, int) else type_name(erased)
    msg = f"erase() must return the number of erased items, 0 or more, not {kind}."
    raise InvalidArgumentError(msg)


def _describe(error: BaseException) -> str:
    # Only this library's messages are known to hold no personal data.
    text = f"{type(error).__name__}: {error}" if isinstance(error, VeriffError) else type(error).__name__
    return text.encode("utf-8", "backslashreplace").decode()
