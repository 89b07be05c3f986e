"""Models as bodies, parameters and responses of a FastAPI application, over real sockets."""

from __future__ import annotations

from typing import Annotated, Any, Final

import pytest
from aiohttp import ClientSession
from anyio import to_thread
from fastapi import Body, FastAPI
from pydantic import BaseModel

from tests.webhooks.conftest import under_uvicorn
from veriff_async import Decision, Person, Status, VeriffClient, WebhookEvent
from veriff_async.models import Attempt
from veriff_async.models.session import SessionInfo  # noqa: TC001  FastAPI reads the annotations
from veriff_async.sandbox import Sandbox
from veriff_async.statistics import ClientStatistics  # noqa: TC001  FastAPI reads the annotations

pytestmark = pytest.mark.anyio

CANARY: Final = "Canary-7f3a"
DECISION: Final = Decision(session_id="8f0d1ab6", status=Status.APPROVED, person=Person(first_name="Ada"))


class Case(BaseModel):
    """A model of pydantic with one of ours."""

    number: int
    decision: Decision | None = None


class Question(BaseModel):
    """The body of a request."""

    person: Person
    status: Status | None = None


def create_app() -> FastAPI:
    """Return an application with a route for each way in which a model is used."""
    app = FastAPI(separate_input_output_schemas=False)

    @app.post("/decisions")
    async def store(decision: Annotated[Decision, Body()]) -> Case:
        return Case(number=7, decision=decision)

    @app.get("/decisions")
    async def search(status: Status = Status.APPROVED) -> list[Decision]:
        return [DECISION] if status == DECISION.status else []

    @app.post("/questions", response_model=Person)
    async def ask(question: Question) -> Person:
        return question.person

    @app.post("/events")
    async def receive(event: Annotated[WebhookEvent, Body()]) -> dict[str, str]:
        return {"kind": event.kind}

    @app.get("/attempts")
    async def attempts() -> dict[Status, tuple[Attempt, ...]]:
        return {Status("newer"): (Attempt(id="1", status=Status("newer")),)}

    @app.get("/sessions")
    async def sessions() -> SessionInfo | None:
        return None

    return app


async def send(url: str, json: object = None) -> tuple[int, Any]:
    """Return status and JSON of the response, to a POST if there is a body."""
    async with ClientSession() as http, http.request("POST" if json is not None else "GET", url, json=json) as response:
        return response.status, await response.json()


async def test_bodies_and_responses() -> None:
    """A body is read with the rules of `from_json`, and a response has Veriff's names, unknown words included."""
    async with under_uvicorn(create_app()) as server:
        url = f"http://127.0.0.1:{server.port}"
        assert (200, {"number": 7, "decision": DECISION.to_dict()}) == await send(
            f"{url}/decisions", DECISION.to_dict()
        )
        assert (200, [DECISION.to_dict()]) == await send(f"{url}/decisions?status=approved")
        assert (200, []) == await send(f"{url}/decisions?status=newer")
        assert (200, DECISION.person.to_dict()) == await send(
            f"{url}/questions", {"person": {"firstName": "Ada"}, "status": "newer"}
        )
        assert (200, {"kind": "event"}) == await send(f"{url}/events", {"id": "1", "action": "started"})
        assert (200, {"newer": [{"id": "1", "status": "newer"}]}) == await send(f"{url}/attempts")
        assert (200, None) == await send(f"{url}/sessions")


async def test_errors_name_members_and_show_no_values() -> None:
    """A body that does not fit is answered 422 with the path of each problem, and without a part of the body."""
    async with under_uvicorn(create_app()) as server:
        url = f"http://127.0.0.1:{server.port}"
        status, answer = await send(f"{url}/decisions", {"verification": {"person": {"firstName": CANARY}}})
        assert 422 == status
        assert [["body", "verification", "id"], ["body", "verification", "status"]] == [
            problem["loc"] for problem in answer["detail"]
        ]
        assert CANARY not in str(answer)
        for path, body in (("/decisions", [CANARY]), ("/questions", {"person": CANARY})):
            status, answer = await send(url + path, body)
            assert 422 == status
            assert CANARY not in str(answer)


def validate_openapi(document: Any) -> None:  # noqa: ANN401  JSON
    """Refuse a document that is not OpenAPI. Blocking."""
    from openapi_spec_validator import validate  # noqa: PLC0415  takes seconds, in each worker

    validate(document)


async def test_openapi_document() -> None:
    """The document is valid and names each model once, for requests and for responses."""
    async with under_uvicorn(create_app()) as server:
        _, document = await send(f"http://127.0.0.1:{server.port}/openapi.json")

    await to_thread.run_sync(validate_openapi, document)
    schemas = document["components"]["schemas"]
    assert {"Decision", "Person", "Status", "Attempt", "SessionEvent", "SessionInfo", "Case"} <= set(schemas)
    assert not [name for name in schemas if name.endswith(("-Input", "-Output")) or "__" in name]
    body = document["paths"]["/decisions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "#/components/schemas/Decision" == body["$ref"]
    assert "#/components/schemas/Status" == document["paths"]["/decisions"]["get"]["parameters"][0]["schema"]["$ref"]


async def test_operators_see_statistics() -> None:
    """A route returns the statistics of a client as they are."""
    async with Sandbox() as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:
        app = FastAPI()

        @app.get("/statistics")
        async def statistics() -> ClientStatistics:
            return veriff.statistics()

        async with under_uvicorn(app) as server:
            status, answer = await send(f"http://127.0.0.1:{server.port}/statistics")

    assert (200, 0, "none") == (status, answer["requests"], answer["inboxState"])
