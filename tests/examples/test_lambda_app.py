"""The example for AWS Lambda, invoked with the events of API Gateway: a REST API, and an HTTP API."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.examples.conftest import EXAMPLES
from tests.examples.web import JPEG
from veriff_async.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from tests.servers import RedisServer

Event = dict[str, Any]
EXTRAS: Final = {"content-type": "application/octet-stream", "host": "api.example", "x-forwarded-for": "192.0.2.1"}


def rest_api(method: str, path: str, body: str | None, headers: dict[str, str], user: str | None) -> Event:
    """Return the event of a REST API (payload format 1.0) with a Cognito authorizer."""
    context = {
        "accountId": "123456789012",
        "apiId": "a1b2c3",
        "httpMethod": method,
        "identity": {"sourceIp": "192.0.2.1", "userAgent": "Mozilla/5.0"},
        "path": f"/prod{path}",
        "requestId": "c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
        "resourcePath": "/{proxy+}",
        "stage": "prod",
        **({"authorizer": {"claims": {"sub": user}}} if user else {}),
    }
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": {**EXTRAS, **headers},
        "multiValueHeaders": {name: [value] for name, value in {**EXTRAS, **headers}.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": {"proxy": path[1:]},
        "requestContext": context,
        "body": body,
        "isBase64Encoded": body is not None,
    }


def http_api(method: str, path: str, body: str | None, headers: dict[str, str], user: str | None) -> Event:
    """Return the event of an HTTP API (payload format 2.0) with a JWT authorizer."""
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "Mozilla/5.0"}
    context = {
        "accountId": "123456789012",
        "apiId": "a1b2c3",
        "domainName": "api.example",
        "http": http,
        "requestId": "JKJaXmPLvHcESHA=",
        "stage": "$default",
        **({"authorizer": {"jwt": {"claims": {"sub": user}, "scopes": None}}} if user else {}),
    }
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {**EXTRAS, **headers},
        "requestContext": context,
        **({} if body is None else {"body": body}),
        "isBase64Encoded": body is not None,
    }


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Run a sandbox in a thread: the function runs its own event loop in this one."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def example(
    sandbox: Sandbox, single_redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ModuleType]:
    """Import the example, in the loop that Mangum finds and keeps, as the main thread of a function has one."""
    single_redis_server.flush()
    settings = {**sandbox.environ, "REDIS_URL": single_redis_server.url, "TOKEN_SECRET": "a secret of the tests" * 2}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    spec = importlib.util.spec_from_file_location("lambda_app", EXAMPLES / "lambda_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lambda_app", module)
    spec.loader.exec_module(module)
    yield module
    loop.run_until_complete(module.veriff.aclose())
    loop.run_until_complete(module.inbox.aclose())
    loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.parametrize("gateway", [rest_api, http_api])
def test_user_is_verified(
    example: ModuleType, sandbox: Sandbox, gateway: Callable[..., Event], capfd: pytest.CaptureFixture[str]
) -> None:
    """A user does everything up to the decision, with bodies in base64; mistakes and other users get a 4xx response."""

    def invoke(
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        user: str | None = "user-42",
    ) -> tuple[int, Any]:
        text = None if body is None else b64encode(body).decode()
        event = gateway(method, path, text, headers or {}, user)
        response = example.handler(event, None)
        content = response["body"]
        return response["statusCode"], json.loads(content) if content.startswith("{") else content

    assert (401, {"detail": "Log in first."}) == invoke("POST", "/verifications", user=None)
    status, started = invoke("POST", "/verifications")
    assert 201 == status
    path = f"/verifications/{started['token']}"
    (session,) = sandbox.sessions

    status, problem = invoke("PUT", f"{path}/media/face", b"a text, and no picture")
    assert (415, "file-type-not-accepted", "face") == (status, problem["code"], problem["field"])
    assert 404 == invoke("PUT", f"{path}/media/face", JPEG, user="user-43")[0]
    assert 404 == invoke("POST", f"/verifications/{session.id}.{'0' * 64}/submit")[0]
    picture = JPEG + bytes(range(256)) * 2000
    assert 204 == invoke("PUT", f"{path}/media/face", picture)[0]
    assert [len(picture)] == [media.size for media in sandbox.session(session.id).media]
    assert (202, {"status": None}) == invoke("GET", path)
    assert 204 == invoke("POST", f"{path}/submit")[0]
    assert 409 == invoke("POST", f"{path}/submit")[0]
    assert (202, {"status": None}) == invoke("GET", path)

    # The sandbox cannot reach a function, so the test carries its webhook, which arrives before the user asks.
    body = json.dumps({"verification": {"id": session.id, "status": "declined"}}).encode()

    def post_webhook(signature: str) -> int:
        key = sandbox.credentials.api_key
        headers = {"content-type": "application/json", "x-auth-client": key, "x-hmac-signature": signature}
        return invoke("POST", "/webhooks/veriff", body, headers, user=None)[0]

    assert 401 == post_webhook("0" * 64)
    assert 200 == post_webhook(sandbox.credentials.sign(body))
    assert "recorded a webhook of kind decision" in capfd.readouterr().out  # before the invocation ended
    assert (200, {"status": "declined", "new_pictures": False}) == invoke("GET", path)
