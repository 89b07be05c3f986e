"""Sessions in chosen states, for consoles, demonstrations and tests of paging. Pure: time and chance are arguments.

The people are obviously invented: surnames such as "Specimen", followed by the word that Veriff's own test data have
(``[EXAMPLE]``, seen), births from 1900 to 1909, and pictures marked SPECIMEN.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, cast
from uuid import UUID

from attrs import frozen

from veriff_async._protocol.arguments import LARGEST
from veriff_async.errors import InvalidArgumentError
from veriff_async.models.enums import Status
from veriff_async.models.json import EMPTY, as_object
from veriff_async.models.reasons import REASONS, ReasonFamily
from veriff_async.sandbox._arguments import check_number, check_word
from veriff_async.sandbox._decision_spec import DecisionSpec
from veriff_async.sandbox._records import StoredMedia
from veriff_async.sandbox._scenario import Post, Scenario
from veriff_async.sandbox._specimens import SPECIMEN_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from random import Random

    from veriff_async.models.json import JsonObject
    from veriff_async.sandbox._records import Session
    from veriff_async.sandbox._rules import SandboxRules
    from veriff_async.sandbox._scenario import Due, Effect
    from veriff_async.sandbox._specimens import SpecimenFile

__all__ = ("MAX_SEEDED", "SEED_STATUSES", "build_seeded", "check_seed", "check_statuses")

SEED_STATUSES: Final = (
    Status.CREATED,
    Status.STARTED,
    Status.SUBMITTED,
    Status.APPROVED,
    Status.DECLINED,
    Status.RESUBMISSION_REQUESTED,
    Status.REVIEW,
    Status.EXPIRED,
    Status.ABANDONED,
)
"""The statuses that seeded sessions can have."""

MAX_SEEDED: Final = 100_000
"""Most sessions of one call, which take half a minute and 500 MB."""

_PERIOD: Final = timedelta(days=6)
_LONGEST_STEPS: Final = timedelta(minutes=30)
_FIRST_NAMES: Final = (
    *("Ada", "Alan", "Amélie", "Bruno", "Chen", "Clara", "Emil", "Farida", "Grace", "Hedy", "Inga", "Jürgen", "Kofi"),
    *("Lena", "Łukasz", "Mila", "Noor", "Olga", "Paulo", "Quentin", "Rosa", "Søren", "Tove", "Uma", "Viktor", "Yuki"),
)
_LAST_NAMES: Final = ("Specimen", "Sample", "Placeholder", "Fictitious", "Mustermann", "Testperson", "Invented", "Doe")
_DOCUMENTS: Final = (("PASSPORT", "EE"), ("ID_CARD", "DE"), ("DRIVERS_LICENSE", "GB"), ("RESIDENCE_PERMIT", "FI"))
_REASONS: Final = {
    Status.DECLINED: tuple(code for code, reason in REASONS.items() if reason.family is ReasonFamily.DECLINE),
    Status.RESUBMISSION_REQUESTED: tuple(
        code for code, reason in REASONS.items() if reason.family is ReasonFamily.RESUBMISSION
    ),
}


@frozen(kw_only=True)
class _Plan:
    """One session that is to be created."""

    status: Status
    age: timedelta
    steps: tuple[timedelta, timedelta, timedelta]
    verification: JsonObject
    reason_code: int | None


def check_statuses(statuses: object) -> tuple[Status, ...]:
    """Check the statuses that sessions are to have."""
    if isinstance(statuses, str) or not isinstance(statuses, Iterable):
        msg = "statuses must be a list of statuses: pass some of " + ", ".join(SEED_STATUSES) + "."
        raise InvalidArgumentError(msg)
    checked = tuple(cast("Iterable[object]", statuses))
    for status in checked:
        check_word("a status of statuses", status, SEED_STATUSES)
    if not checked:
        msg = "statuses is empty: pass some of " + ", ".join(SEED_STATUSES) + "."
        raise InvalidArgumentError(msg)
    return tuple(Status(cast("str", status)) for status in checked)


def check_seed(sessions: object, seed: object) -> None:
    """Check the number of sessions and the seed."""
    check_number("sessions", sessions, lowest=1, highest=MAX_SEEDED, whole=True)
    check_number("seed", seed, highest=LARGEST, whole=True)


def _plan_all(chance: Random, sessions: int, statuses: Sequence[Status], lifetime: timedelta) -> list[_Plan]:
    chosen = [statuses[number % len(statuses)] for number in range(sessions)]
    chance.shuffle(chosen)
    # Undecided sessions must not be at their end already.
    period = min(_PERIOD, lifetime * 0.8)
    plans = [_plan(chance, status, period, lifetime) for status in chosen]
    return sorted(plans, key=lambda plan: plan.age, reverse=True)


def _plan(chance: Random, status: Status, period: timedelta, lifetime: timedelta) -> _Plan:
    age = period * chance.random()
    # Each part is at most a third, so that all steps lie between creation and now, in their order.
    unit = min(age, _LONGEST_STEPS) / 3
    start, submission, decision = (unit * (position + chance.random()) for position in range(3))
    if status in {Status.EXPIRED, Status.ABANDONED}:
        age, decision = age + lifetime, lifetime
    kind, country = chance.choice(_DOCUMENTS)
    born = date(1900, 1, 1) + timedelta(days=chance.randrange(3650))
    verification: JsonObject = {
        "endUserId": _random_id(chance),
        "person": {
            "firstName": chance.choice(_FIRST_NAMES),
            "lastName": f"{chance.choice(_LAST_NAMES)} [EXAMPLE]",
            "dateOfBirth": born.isoformat(),
        },
        "document": {"type": kind, "country": country},
    }
    codes = _REASONS.get(status)
    code = None if codes is None else chance.choice(codes)
    return _Plan(
        status=status, age=age, steps=(start, submission, decision), verification=verification, reason_code=code
    )


def build_seeded(
    rules: SandboxRules, chance: Random, sessions: int, statuses: Sequence[Status], *, now: datetime
) -> Iterator[tuple[Session, Due]]:
    """Build sessions, oldest first, each with its end.

    No other event of them is planned, because it would change the chosen status. Their webhooks are not posted, but can
    be posted again as if they were.
    """
    lifetime = timedelta(days=rules.options.session_lifetime_days)
    # A scenario of its own: sessions in any state can be built without the lock of the service.
    scenario = Scenario(rules, new_id=partial(_random_id, chance))
    for number, plan in enumerate(_plan_all(chance, sessions, statuses, lifetime), start=1):
        yield _build(scenario, plan, number, now)
        scenario.sessions.clear()


def _build(scenario: Scenario, plan: _Plan, number: int, now: datetime) -> tuple[Session, Due]:
    created_at = now - plan.age
    started_at, submitted_at, decided_at = (created_at + step for step in plan.steps)
    session, end = scenario.open_session({"verification": _number(plan.verification, number)}, now=created_at)
    happened: list[Effect] = []
    if plan.status not in {Status.CREATED, Status.EXPIRED}:
        happened += scenario.start(session, now=started_at)
        taken = SPECIMEN_FILES[: 1 if plan.status in {Status.STARTED, Status.ABANDONED} else None]
        session.attempt.media.extend(_store(file, scenario.new_id()) for file in taken)
    if plan.status not in {Status.CREATED, Status.STARTED, Status.EXPIRED, Status.ABANDONED}:
        happened += scenario.submit_attempt(session, now=submitted_at)
    if plan.status not in {Status.CREATED, Status.STARTED, Status.SUBMITTED}:
        spec = DecisionSpec(status=plan.status, reason_code=plan.reason_code)
        happened += scenario.decide(session, spec, now=decided_at)
    _remember(session, happened)
    return session, end


def _number(verification: JsonObject, number: int) -> JsonObject:
    document = as_object(verification["document"]) or EMPTY
    return {
        **verification,
        "vendorData": f"seed-{number}",
        "document": {"number": f"SPECIMEN{number:06}", **document},
    }


def _remember(session: Session, effects: Sequence[Effect]) -> None:
    for effect in effects:
        post = effect if isinstance(effect, Post) else effect.post
        if post is not None:
            session.posted[post.kind] = post.body


def _store(file: SpecimenFile, media_id: str) -> StoredMedia:
    # The file belongs to the library. Ten thousand sessions share it, and no reset removes it.
    return StoredMedia(
        id=media_id,
        context=file.context,
        mimetype="image/webp",
        size=file.size,
        sha256=file.sha256,
        path=file.path,
    )


def _random_id(chance: Random) -> str:
    return str(UUID(int=chance.getrandbits(128), version=4))
