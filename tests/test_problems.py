"""Problem details: each error becomes a response for users, without anything internal; the pages show the table."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given, strategies as st

from tests.pages import REFERENCE, check_page
from tests.test_errors import CANARY, SAMPLES, unpickle
from veriff_async import errors, problem_details
from veriff_async._protocol.error_codes import remedy
from veriff_async._protocol.session_request import create_body
from veriff_async.models.enums import MediaContext
from veriff_async.models.inspection import CheckName, CheckVerdict, MediaInspection, PictureCheck
from veriff_async.models.media import MediaReference
from veriff_async.problems import CLASSES, DEFAULT_TYPES, FIELDS, PROBLEMS, PROGRAM_CODES, STATUS_CODES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from veriff_async import ProblemDetails

PAGE: Final = """\
# Problems for users

`problem_details(error)` turns an error into the response that the users of a web application get, in the form of
[RFC 9457](https://www.rfc-editor.org/rfc/rfc9457). A handler for `VeriffError` is enough:

```python
import asyncio

from aiohttp import ClientSession, web

from veriff_async import VeriffClient, VeriffError, problem_details
from veriff_async.sandbox import Sandbox


@web.middleware
async def answer_errors(request, handler):
    try:
        return await handler(request)
    except VeriffError as error:
        problem = problem_details(error)
        if problem.needs_operator:
            print(type(error).__name__, error)  # your log: the message holds neither secrets nor personal data
        return web.json_response(
            problem.to_dict(), status=problem.status, headers=problem.headers, content_type=problem.media_type
        )


async def main() -> None:
    async with Sandbox() as sandbox, VeriffClient.from_env(sandbox.environ) as veriff:

        async def start(request: web.Request) -> web.Response:
            form = await request.json()
            session = await veriff.create_session(person={"date_of_birth": form.get("date_of_birth")})
            return web.json_response({"id": session.id})

        app = web.Application(middlewares=[answer_errors])
        app.router.add_post("/verification", start)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/verification"
        async with ClientSession() as browser, browser.post(url, json={"date_of_birth": "yesterday"}) as answer:
            problem = await answer.json()
            print(answer.status, problem["code"], problem["field"])  # 422 invalid-value person.date_of_birth
        await runner.cleanup()


asyncio.run(main())
```

The members `type`, `title`, `status` and `detail` are those of the RFC. These are added:

- `code`: the stable name of the problem.
- `action`: the next step of the user: `correct` a value or a file, `retry` later, `reload` the page, `restart` with
  a new verification, or `contact` you.
- `field`: the value or file to correct, if it is known: the context of a picture (`document-front`), or an argument
  (`person.first_name`).
- `retry_after`: seconds after which the same request may succeed, if they are known. `problem.headers` has them as
  `Retry-After`.

`detail` is a sentence for the user, without ids, secrets or personal data. For other languages, pass `texts=`: your
sentences by code. The sentences for `picture-quality` are the hints of the failed checks; translate these by
`error.inspection.failed`. `types=` replaces the address of this page in `type` by that of your own.

With the action `contact`, only you can remove the problem: log the error, see [errors](errors.md).

Each problem has its text, its action, and the errors that become it, with the status of the response:

"""
ENTRIES: Final = """
## Entries

```{eval-rst}
.. entries::

   problem_details
   ProblemDetails
```
"""
NOTES: Final = {"DecisionTimeoutError": "202 if the page asks again, else {}"}


def write_problem(code: str) -> str:
    """Write the section of one problem."""
    action, text = PROBLEMS[code]
    names = [f"`{kind.__name__}` ({status})" for kind, (status, its) in CLASSES.items() if its == code]
    if code == "verification-changed":
        names.append(f"`BadRequestError` with code {', '.join(sorted(STATUS_CODES))} (409)")
    if code == "invalid-request":
        names.append("`InvalidArgumentError` for an argument that is not a user's (422)")
        names.append(f"`BadRequestError` with code {', '.join(sorted(PROGRAM_CODES))} (422)")
    names = [name.replace("`BaseException`", "any other exception") for name in names]
    title = code.replace("-", " ").capitalize()
    return f"## {title}\n\n> {text}\n\nCode `{code}`, action `{action}`: {', '.join(names)}.\n"


def test_page_of_problems() -> None:
    """The page has every problem, and its headings are the addresses that `type` names."""
    check_page(REFERENCE / "problems.md", PAGE + "\n".join(map(write_problem, PROBLEMS)) + ENTRIES)


def test_page_of_errors_has_the_same_status() -> None:
    """The last column of the tables about errors is the status of the problem."""

    def correct(row: re.Match[str]) -> str:
        status, _ = CLASSES[getattr(errors, row[2])]
        pause = " with `Retry-After`" if status == HTTPStatus.SERVICE_UNAVAILABLE else ""
        return f"{row[1]}{NOTES.get(row[2], '{}').format(status)}{pause} |"

    path = REFERENCE / "errors.md"
    text = path.read_text(encoding="utf-8")
    check_page(path, re.sub(r"^(\| `(\w+Error)` \|.*\| )[^|]+ \|$", correct, text, flags=re.MULTILINE))


def test_every_error_has_a_row() -> None:
    """Each class has a row of its own, so that a new error cannot inherit a wrong one; no problem is left over."""

    def tree(kind: type[BaseException]) -> Iterator[type[BaseException]]:
        yield kind
        for child in kind.__subclasses__():
            if child.__module__ == errors.__name__:
                yield from tree(child)

    assert {*tree(errors.VeriffError), BaseException} == set(CLASSES)
    assert set(PROBLEMS) == {code for _, code in CLASSES.values()} | {"invalid-request"}


def test_codes_of_veriff_are_known() -> None:
    """Every code with a meaning of its own is in the table of codes, and none has two meanings."""
    assert not [code for code in {*FIELDS, *PROGRAM_CODES, *STATUS_CODES} if remedy(400, code) == remedy(400, None)]
    assert not {*FIELDS} & {*PROGRAM_CODES, *STATUS_CODES}


@pytest.mark.parametrize("error", SAMPLES, ids=lambda error: type(error).__name__)
def test_problem_shows_nothing_of_the_error(error: errors.VeriffError) -> None:
    """Neither the message, nor Veriff's own words, nor an id is in any member; the members are JSON."""
    error.session_id = "3f2504e0-4f89-11d3-9a0c-0305e82c3301"
    problem = problem_details(error)
    members = problem.to_dict()

    text = json.dumps(members)
    assert not [word for word in ("Sentence", CANARY, error.session_id, "/v1/", type(error).__name__) if word in text]
    assert ["type", "title", "status", "detail", "code", "action"] == list(members)[:6]
    assert members["type"] == f"{DEFAULT_TYPES}{problem.code}"
    assert 400 <= problem.status <= 599
    assert problem == problem_details(unpickle(error))
    assert problem.needs_operator == (problem.action == "contact")
    assert (problem.headers == {}) == (problem.retry_after is None)


def test_media_is_the_field() -> None:
    """An error of a file names the context of the file, and one with an unknown context names its index."""
    error = errors.MediaTooLargeError("Sentence.")
    error.media = MediaReference(index=1, context=MediaContext.FACE)
    assert ("face", 413, "correct") == fields(problem_details(error))

    refused = errors.PayloadTooLargeError("Sentence.", status=413)
    refused.media = error.media
    assert ("face", 413, "correct") == fields(problem_details(refused))

    unknown = errors.InvalidArgumentError("Sentence.")
    unknown.media = MediaReference(index=2, context=None)
    assert ("media[2]", 422, "correct") == fields(problem_details(unknown))


def fields(problem: ProblemDetails) -> tuple[str | None, int, str]:
    """Return field, status and action."""
    return problem.field, problem.status, problem.action


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"person": {"date_of_birth": "yesterday"}}, ("person.date_of_birth", 422, "correct")),
        ({"person": {"gender": "q"}}, ("person.gender", 422, "correct")),
        ({"document": {"country": "Utopia"}}, ("document.country", 422, "correct")),
        ({"callback": "http://shop.example"}, ("callback", 422, "contact")),
        ({"vendor_data": "x" * 1001}, ("vendor_data", 422, "contact")),
        ({"person": 3}, (None, 422, "contact")),
    ],
)
def test_argument_is_the_field(options: dict[str, object], expected: tuple[str | None, int, str]) -> None:
    """Only a value that a user typed is theirs to correct; other arguments are those of the program."""
    with pytest.raises(errors.InvalidArgumentError) as caught:
        create_body(options)  # type: ignore[arg-type]

    assert expected == fields(problem_details(caught.value))
    assert expected[0] == getattr(unpickle(caught.value), "field", "")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("2101", ("document.number", 422, "correct")),
        ("1308", ("person.id_number", 422, "correct")),
        ("1304", (None, 409, "reload")),
        ("1302", (None, 422, "contact")),
        ("9999", (None, 422, "correct")),
        (None, (None, 422, "correct")),
    ],
)
def test_code_of_veriff_decides(code: str | None, expected: tuple[str | None, int, str]) -> None:
    """A refusal is the user's to correct, unless its code is about the program or the status of the session."""
    assert expected == fields(problem_details(errors.BadRequestError("Sentence.", status=400, code=code)))


def test_hints_of_a_picture_are_the_text() -> None:
    """The text about a bad picture has the hints of its failed checks, unless the application has another one."""
    check = PictureCheck(name=CheckName.GLARE, value=1, threshold=0, verdict=CheckVerdict.FAILED, hint="Avoid light.")
    error = errors.MediaQualityError("Sentence.")
    generic = problem_details(error).detail
    error.inspection = MediaInspection(context=MediaContext.FACE, mimetype="image/jpeg", size=3, checks=(check,))

    assert "Avoid light." == problem_details(error).detail
    assert "Licht meiden." == problem_details(error, texts={"picture-quality": "Licht meiden."}).detail
    assert "Avoid light." == problem_details(error, texts={"file-empty": "Leer."}).detail
    error.inspection = MediaInspection(context=MediaContext.FACE, mimetype="image/jpeg", size=3)
    assert generic == problem_details(error).detail


@given(st.floats() | st.none())
def test_pause_is_one_that_browsers_can_wait(pause: float | None) -> None:
    """`Retry-After` is a whole number of seconds up to a day, for any number of the error."""
    problem = problem_details(errors.RateLimitedError("Sentence.", status=429, retry_after=pause))

    assert 0 <= int(problem.headers["Retry-After"]) <= 86_400
    json.dumps(problem.to_dict(), allow_nan=False)


def test_pause_of_a_limited_batch_is_that_of_its_limit() -> None:
    """The user of a batch that may create no more sessions in this hour learns when it may."""
    assert 1800 == problem_details(errors.SessionLimitError("Sentence.", retry_after=1800)).retry_after


def test_pages_of_the_application() -> None:
    """The address of the type may be that of the application's own pages."""
    problem = problem_details(errors.MediaEmptyError("Sentence."), types="https://shop.example/problems/")

    assert "https://shop.example/problems/file-empty" == problem.type
    assert "File empty" == problem.title


def test_subclass_is_the_problem_of_its_base() -> None:
    """An error of a program that extends ours is the problem of the nearest of ours."""

    class TooWide(errors.MediaTooLargeError):
        pass

    class TeapotError(errors.WebhookError):
        status_hint = 418

    assert "file-too-large" == problem_details(TooWide("Sentence.")).code
    assert 418 == problem_details(TeapotError("Sentence.")).status


def test_subclass_without_the_attributes_of_its_base_is_described() -> None:
    """A subclass whose `__init__` does not call that of its base has the defaults of the attributes."""

    class OwnError(errors.BadRequestError):
        def __init__(self) -> None:
            pass

    assert "invalid-value" == problem_details(OwnError()).code


def test_group_of_one_is_its_error() -> None:
    """The error of a task group with one failure is described, however deep; several errors are a fault."""
    large, empty = errors.MediaTooLargeError("Sentence."), errors.MediaEmptyError("Sentence.")

    assert problem_details(large) == problem_details(ExceptionGroup("a", [ExceptionGroup("b", [large])]))
    assert 500 == problem_details(ExceptionGroup("a", [large, empty])).status


def test_other_exceptions_are_faults_of_the_application() -> None:
    """Any other exception is status 500, without its text; what is not an exception is a `TypeError`."""
    for error in (KeyError(CANARY), ExceptionGroup(CANARY, [ValueError(CANARY)]), KeyboardInterrupt()):
        problem = problem_details(error)
        assert (500, "internal-error", "contact") == (problem.status, problem.code, problem.action)
        assert CANARY not in json.dumps(problem.to_dict())
    with pytest.raises(TypeError, match="error must be an exception, not str"):
        problem_details("Sentence.")  # type: ignore[arg-type]
