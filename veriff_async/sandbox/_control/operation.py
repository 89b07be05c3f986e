"""An operation of the control API: a row of the table in `operations`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from attrs import Factory, field, frozen

if TYPE_CHECKING:
    import asyncio

    from veriff_async.sandbox._changes import SessionChanges
    from veriff_async.sandbox._control.access import Access
    from veriff_async.sandbox._control.fields import Field
    from veriff_async.sandbox._service import SandboxService

__all__ = ("EVENTS", "FILE", "Arguments", "Context", "Download", "Operation", "Result")

Arguments: TypeAlias = Mapping[str, Any]
"""The checked input of an operation: path, query and body by the names of their fields."""

Result: TypeAlias = object
"""An attrs object, a mapping of names to values, a file of a session, or an `EventStream`."""

EVENTS: Final = "events"
"""The result of an operation that responds with server-sent events."""

FILE: Final = "file"
"""The result of an operation that responds with a file: a `StoredMedia`, or a `Download`."""


@frozen(kw_only=True)
class Download:
    """A file that an operation has made."""

    body: bytes
    media_type: str
    name: str


@frozen(kw_only=True)
class Context:
    """The objects that operations use.

    Attributes:
        service: The state of the sandbox.
        changes: Changes of sessions.
        wait_idle: Waits until no webhook is due or being posted.
        access: The access rules, with the token.
        set_public_url: Changes the URL that begins the addresses in responses.
        closing: Set when the sandbox stops; ends requests that wait.
    """

    service: SandboxService
    changes: SessionChanges
    wait_idle: Callable[[], Awaitable[None]]
    access: Access
    set_public_url: Callable[[str | None], None]
    closing: asyncio.Event


@frozen
class Operation:
    """One operation.

    Attributes:
        name: Its name, unique; the operationId of OpenAPI.
        method: HTTP method.
        path: Path below `API_PREFIX`, with the names of path fields in braces.
        text: Its purpose, as the first line of a docstring; the summary of OpenAPI.
        call: Carries it out.
        result: The type of the result as an annotation, a mapping of names to annotations, `FILE` or `EVENTS`.
        query: Fields of the query.
        body: Fields of the JSON body.
        upload: Media type of a body that is stored in a file; the operation gets its path as ``file``.
        ids: Fields of the path that are whole numbers; all others are texts.
        is_change: Whether it can be refused with 409.
        python: Members of `Sandbox` that do the same; by default the one of the same name.
    """

    name: str
    method: str
    path: str
    text: str
    call: Callable[[Context, Arguments], Result | Awaitable[Result]]
    result: Any
    query: tuple[Field, ...] = ()
    body: tuple[Field, ...] = ()
    upload: str | None = None
    ids: tuple[Field, ...] = ()
    is_change: bool = False
    python: tuple[str, ...] = field(default=Factory(lambda operation: (operation.name,), takes_self=True), kw_only=True)
    segments: tuple[str, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Split the path once."""
        object.__setattr__(self, "segments", tuple(part for part in self.path.split("/") if part))

    @property
    def takes_body(self) -> bool:
        """Whether a request has a body."""
        return self.method != "GET"
