"""Every endpoint and webhook is supported everywhere: this module writes docs/reference/endpoints.md from the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast, get_args

from tests.endpoint_samples import ID, SAMPLES, sample_arguments, sample_call
from tests.pages import REFERENCE, ROOT, Row, check_page, table
from veriff_async import Credentials, VeriffClient, VerificationSession, WebhookEvent
from veriff_async._protocol import endpoints
from veriff_async._protocol.base_url import LOCAL_SYNC
from veriff_async.models.session import SessionInfo
from veriff_async.sandbox import Sandbox, WebhookKind
from veriff_async.sandbox._routes import ROUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FunctionType

    from veriff_async._http.transport import Transport
    from veriff_async._protocol.call import Call
    from veriff_async._protocol.request import Request
    from veriff_async.sandbox._routes import Route

PAGE: Final = REFERENCE / "endpoints.md"
# Methods that send more than one request, or stream.
MULTI_STEP: Final[dict[str, Callable[..., object]]] = {
    "submit_session": VerificationSession.submit,
    "upload_media": VerificationSession.upload,
    "download_media": VeriffClient.download_media,
    "download_certificate_file": VerificationSession.download_certificate_document,
}
# That each of these causes its kind is tested in tests/sandbox/test_session_events.py.
SENT_BY: Final[dict[WebhookKind, Callable[..., object]]] = {
    WebhookKind.EVENT: Sandbox.start_attempt,
    WebhookKind.DECISION: Sandbox.decide,
    WebhookKind.FULL_AUTO: Sandbox.decide,
    WebhookKind.WATCHLIST: Sandbox.complete_watchlist_screening,
    WebhookKind.USER_STATUS: Sandbox.set_user_status,
    WebhookKind.INE: Sandbox.complete_registry_check,
    WebhookKind.CURP: Sandbox.complete_registry_check,
    WebhookKind.INE_CURP: Sandbox.complete_registry_check,
    WebhookKind.ADDRESS: Sandbox.submit_address,
}
HEAD: Final = """\
# Endpoints and webhooks

Every known endpoint and webhook, and the call or class that this library has for it. The test `tests/test_endpoints.py`
writes this page from the code; it also checks that each has a handler of the sandbox and tests. `veriff` is a
`VeriffClient`, and `session` a `VerificationSession`.

"Documented" means that Veriff's own pages show the call. The docstring of the call, and the page about
[what is known about Veriff](../concepts/known-and-guessed.md), name each guess about its form.

"""


@cache  # not when the module is imported: it parses all tests, which takes a second, in each worker
def find_uses_in_tests() -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Return the methods that tests call and the names that they use, each with the files of these tests."""
    methods: dict[str, set[str]] = {}
    names: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        # Tests of commands and batches use many calls without checking their details.
        if path == Path(__file__) or path.parent.name in {"batch", "cli"}:
            continue
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name):
                names.setdefault(node.id, set()).add(file)
            # Functions of the protocol package have the same names as methods of the client.
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and "protocol" not in path.parts:
                methods.setdefault(node.func.attr, set()).add(file)
    return methods, names


def public_methods() -> Iterator[tuple[str, Callable[..., object]]]:
    """Return every public method of client and session, with its qualified name."""
    for owner in (VeriffClient, VerificationSession):
        for name, method in vars(owner).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                yield f"{owner.__name__}.{name}", method


class _SentError(Exception):
    """Ends a method at its first request."""


class RecordingTransport:
    """A transport that records the first call of a method, and ends the method."""

    def __init__(self) -> None:
        """Start without a recorded call."""
        self.call: Call[Any] | None = None

    async def send(self, call: Call[Any]) -> NoReturn:
        """Record a call."""
        self.call = call
        raise _SentError


def first_call(name: str, method: Callable[..., object]) -> Call[Any] | None:
    """Return the call of the API that a public method makes first, or None if it makes none with sample arguments."""
    if not inspect.iscoroutinefunction(method) or not all(
        parameter.name in SAMPLES or parameter.name == "self" or parameter.kind is parameter.VAR_KEYWORD
        for parameter in inspect.signature(method).parameters.values()
    ):
        return None
    transport = RecordingTransport()
    client = VeriffClient(Credentials("key", "secret"), base_url="https://veriff.example")
    client._runtime.transport = cast("Transport", transport)
    owner = client if name.startswith("VeriffClient.") else client._attach(SessionInfo(id=ID))
    positional, keywords = sample_arguments(method)

    async def run() -> None:
        with suppress(_SentError):
            await method(owner, *positional, **keywords)

    asyncio.run(run())
    return transport.call


@cache
def calls_by_method() -> dict[str, Call[Any]]:
    """Return the first call of each public method."""
    multi_step = set(MULTI_STEP.values())
    calls = {name: first_call(name, method) for name, method in public_methods() if method not in multi_step}
    return {name: call for name, call in calls.items() if call is not None}


def public_method(name: str) -> tuple[str, Callable[..., object]]:
    """Return the public method that makes a call of the API."""
    methods = dict(public_methods())
    if name in MULTI_STEP:
        return next((public_name, method) for public_name, method in methods.items() if method is MULTI_STEP[name])
    expected = sample_call(name)
    for public_name, call in calls_by_method().items():
        if (call.method, call.path, call.body, call.host) == (
            expected.method,
            expected.path,
            expected.body,
            expected.host,
        ):
            return public_name, methods[public_name]
    msg = f"no public method calls {name}"
    raise AssertionError(msg)


def sample_request(name: str) -> Request:
    """Return a signed request with valid arguments."""
    return sample_call(name).sign(Credentials("key", "secret"), signature="0" * 64)


def qualified_name(route: Route) -> str:
    """Return the name of the method that handles a route."""
    return cast("FunctionType", route.handler).__qualname__


def handler(request: Request) -> str:
    """Return the handler of the sandbox for a request."""
    path = (LOCAL_SYNC if request.host == "sync" else "") + request.path.partition("?")[0]
    for route in ROUTES:
        if route.method == request.method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", route.path), path):
            return qualified_name(route)
    msg = f"the sandbox has no {request.method} {path}"
    raise AssertionError(msg)


def find_source(thing: object) -> str:
    """Return the source for a call or event, as its docstring names it."""
    words = inspect.getdoc(thing) or ""
    page = re.search(r"https://devdocs\.veriff\.com/[\w/-]+", words)
    if page is not None:
        return f"[documented]({page[0]})"
    sources = ("partly a guess", "documented once, its path is a guess", "documented once", "seen in", "documented")
    source = next((source for source in sources if source in words), "a guess")
    return source.replace("seen in", "seen in other clients")


def endpoint(name: str) -> Row:
    """Describe one endpoint."""
    request = sample_request(name)
    public_name, method = public_method(name)
    result = inspect.signature(getattr(endpoints, name)).return_annotation.removeprefix("Call[").removesuffix("]")
    model = inspect.signature(method).return_annotation if name.startswith("download") else result
    called, _ = find_uses_in_tests()
    tests = called.get(public_name.rpartition(".")[2], set())
    assert tests, f"{public_name} has no test"
    assert handler(request)
    path = request.path.replace(ID, "{id}")
    return Row(
        (
            f"`{request.method} {path}`" + ("" if request.host == "api" else f" ({request.host})"),
            f"`{public_name.replace('VeriffClient.', 'veriff.').replace('VerificationSession.', 'session.')}`",
            f"`{model}`",
            find_source(getattr(endpoints, name)),
        )
    )


def webhook(kind: type[Any]) -> Row:
    """Describe one kind of webhook."""
    _, named = find_uses_in_tests()
    tests = named.get(kind.__name__, set())
    assert tests, f"{kind.__name__} has no test"
    return Row(
        (
            f"`{kind.kind}`",
            f"`{kind.__name__}`",
            f"`Sandbox.{SENT_BY[WebhookKind(kind.kind)].__name__}`",
            find_source(kind),
        )
    )


def test_every_endpoint_and_webhook_is_in_every_layer() -> None:
    """Each has a request, a model, a public method, a sandbox handler and tests; the page of endpoints lists them."""
    rows = [endpoint(name) for name in endpoints.__all__]
    webhooks = [webhook(kind) for kind in get_args(WebhookEvent) if kind.__name__ != "UnknownEvent"]
    written = HEAD + "\n\n".join(
        (
            "{.stack}\n" + table(("endpoint", "call", "result", "known from"), rows),
            "## Webhooks\n\nAn `UnknownEvent` keeps the JSON of any other kind.",
            "{.stack}\n" + table(("kind", "class", "the sandbox sends it with", "known from"), webhooks),
        )
    )

    assert all(cell.strip("`") for row in rows + webhooks for cell in row.cells)
    check_page(PAGE, written + "\n")


def test_every_handler_of_the_sandbox_is_requested() -> None:
    """The sandbox has no endpoint that the client does not request."""
    requested = {handler(sample_request(name)) for name in endpoints.__all__}

    assert {qualified_name(route) for route in ROUTES} == requested
