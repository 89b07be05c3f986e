"""The dashboard and the alert rules: each query names metrics and labels that a real run exports to Prometheus."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, get_args

import promql_parser
import pytest
from attrs import frozen
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.pages import ROOT
from tests.waiting.helpers import JPEG, NEVER, OFTEN
from tests.webhooks.conftest import CREDENTIALS, message, sign_headers
from tools.build_dashboard import DASHBOARD, ROWS, WIDTH, Panel, main
from veriff_async import BadRequestError, DeliveryPolicy, Media, OutcomeUnknownError, VeriffClient, WebhookReceiver
from veriff_async._protocol import endpoints
from veriff_async.batch import Job, MemoryJournal, verify_many
from veriff_async.errors import SignatureFault
from veriff_async.inbox import IgnoredReason, MemoryInbox
from veriff_async.sandbox import Fault, Sandbox
from veriff_async.telemetry import Telemetry
from veriff_async.webhooks import asgi_app
from veriff_async.webhooks._http import REASONS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

FOLDER: Final = ROOT / "contrib" / "grafana"
PAGE: Final = ROOT / "docs" / "how-to" / "run-in-production.md"
PANELS: Final = [panel for panels in ROWS.values() for panel in panels]
ALERTS: Final = re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yaml").read_text())

VALUES: Final[Mapping[str, frozenset[str]]] = {
    "error_type": frozenset({"", "401", "403", OutcomeUnknownError.__name__}),
    "veriff_operation": frozenset(endpoints.__all__),
    "veriff_webhook_refusal": frozenset({*get_args(SignatureFault), *REASONS.values(), "unreadable"}),
    "veriff_webhook_result": frozenset({"recorded", "failed", *IgnoredReason}),
}
"""The values of labels that queries may name; calls that fail have a status or the class of an error."""

PREFIXES: Final = ("http_client_", "messaging_", "veriff_")
# Prometheus adds the first two when it scrapes, and histograms have the third.
OF_PROMETHEUS: Final = frozenset({"job", "instance", "le"})


@asynccontextmanager
async def running_application(telemetry: Telemetry) -> AsyncGenerator[None]:
    """Do what an application does in production, trouble included, so that each metric has a value."""
    async with Sandbox(decide_after=0) as sandbox, MemoryInbox() as inbox:
        veriff = VeriffClient.from_env(sandbox.environ, inbox=inbox, poll=NEVER, telemetry=telemetry)
        receiver = WebhookReceiver(sandbox.credentials, inbox, on_event=lambda _: None, telemetry=telemetry)
        async with veriff, receiver:
            await receiver.handle("POST", {}, b"")
            sandbox.set_webhook_app(asgi_app(receiver))
            sandbox.inject(Fault.status(503))
            session = await veriff.create_session()
            uploaded = (await session.upload(Media(JPEG, "face")))[0]
            async with veriff.stream_media(uploaded.id) as stream:
                assert b"".join([piece async for piece in stream])
            sandbox.inject(Fault.status(400))
            with pytest.raises(BadRequestError):
                await session.submit()
            await session.submit()
            await session.wait_for_decision(timeout=None)
            await bury_event(telemetry)
            sandbox.set_webhook_app(None)
            # Its webhook is lost, so a poll finds the decision.
            view = veriff.with_options(poll=OFTEN)
            results = verify_many(view, [Job("user", [Media(JPEG, "face")])], journal=MemoryJournal())
            async with aclosing(results):
                assert (await anext(results)).decision is not None
                yield


async def bury_event(telemetry: Telemetry) -> None:
    """Let a handler fail in its last attempt."""

    async def fail(_delivery: object) -> None:
        raise ValueError

    once, body = DeliveryPolicy(max_attempts=1), message()
    async with WebhookReceiver(
        CREDENTIALS, MemoryInbox(), on_event=fail, delivery=once, telemetry=telemetry
    ) as receiver:
        await receiver.receive(sign_headers(body), body)
    assert receiver.statistics().dead_letters


@pytest.fixture(scope="module")
def exported() -> Mapping[str, frozenset[str]]:
    """Return the labels of each series that a real run exports, by the name of the series."""
    provider = MeterProvider(metric_readers=[PrometheusMetricReader()])
    telemetry = Telemetry(meter_provider=provider)
    labels: dict[str, set[str]] = {}

    async def run() -> None:
        async with running_application(telemetry):
            text = generate_latest(REGISTRY).decode()
        provider.shutdown()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)

    asyncio.run(run())
    return {name: frozenset(found) for name, found in labels.items()}


@frozen
class Used:
    """Names of an expression: series with the labels that it compares, labels of its result, and values of labels."""

    series: dict[str, set[str]]
    labels: set[str]
    values: list[tuple[str, str]]


def parse(expression: str) -> Used:
    """Parse PromQL, after Grafana has put in its variables."""
    for variable, value in (("$__rate_interval", "5m"), ("$__range", "3h")):
        expression = expression.replace(variable, value)
    used = Used({}, set(), [])

    def visit(node: object) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            matchers = node.matchers.matchers
            used.series.setdefault(str(node.name), set()).update(each.name for each in matchers)
            used.values.extend((each.name, value) for each in matchers for value in each.value.split("|"))
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            used.labels.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return used


def check_names(expression: str, exported: Mapping[str, frozenset[str]], legend: str = "") -> None:
    """Check that every metric and label of a query is exported."""
    used = parse(expression)
    known = OF_PROMETHEUS.union(*(exported[name] for name in used.series))
    for name, compared in used.series.items():
        assert compared - OF_PROMETHEUS <= exported[name], name
    assert used.labels <= known
    assert [] == [pair for pair in used.values if pair[0] in VALUES and pair[1] not in VALUES[pair[0]]]
    assert set(re.findall(r"{{(\w+)}}", legend)) <= used.labels


def test_dashboard_is_what_the_program_builds() -> None:
    """The file is never edited by hand: `python -m tools.build_dashboard` writes it."""
    assert 0 == main(["--check"]), "run python -m tools.build_dashboard"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_panel_queries_what_is_exported(panel: Panel, exported: Mapping[str, frozenset[str]]) -> None:
    """Each query is PromQL over metrics and labels of a real run, limited to the chosen processes."""
    for query in panel.queries:
        check_names(query.expression, exported, query.legend)
        assert all({"job", "instance"} <= compared for compared in parse(query.expression).series.values())
    assert panel.description.endswith(".")


@pytest.fixture(scope="module")
def rules() -> dict[str, dict[str, Any]]:
    """Return the alert rules by name."""
    import yaml  # type: ignore[import-untyped]  # noqa: PLC0415  only the worker that runs these tests needs it

    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_queries_what_is_exported(
    alert: str, rules: dict[str, dict[str, Any]], exported: Mapping[str, frozenset[str]]
) -> None:
    """Each rule has the members that Prometheus knows, and a summary, a description and a runbook."""
    rule = rules[alert]
    assert {"alert", "expr", "labels", "annotations"} == rule.keys() - {"for"}
    assert {"summary", "description", "runbook"} == rule["annotations"].keys()
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert re.fullmatch(r"\d+m", rule.get("for", "1m"))
    check_names(rule["expr"], exported)
    shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert shown <= parse(rule["expr"]).labels


def test_every_metric_is_on_the_dashboard(exported: Mapping[str, frozenset[str]]) -> None:
    """A new metric needs a panel, or a reason why it has none."""
    shown = {name for panel in PANELS for query in panel.queries for name in parse(query.expression).series}
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in shown}
    ours = {re.sub("_(bucket|count|sum)$", "", name) for name in exported if name.startswith(PREFIXES)}
    without_panel = {
        "veriff_wait_duration_seconds",  # how long callers wait, which depends on when they begin
    }
    assert without_panel == ours - families


def test_layout_fits_a_laptop() -> None:
    """Panels do not overlap, each row is full, and the first row fits on the first screen with the second."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    cells = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert len(cells) == WIDTH * (1 + max(y for _, y in cells))
    assert len(panels) == len({panel["id"] for panel in panels})


def test_page_lists_every_alert_and_row(rules: dict[str, dict[str, Any]]) -> None:
    """The page for operators has the severity of each alert, and when to look at each row."""
    text = PAGE.read_text()
    listed = re.findall(r"^\| `(Veriff\w+)` \| (\w+) \|", text, re.MULTILINE)

    assert [(name, rule["labels"]["severity"]) for name, rule in rules.items()] == listed
    assert all(row in text for row in ROWS)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool of Prometheus is not installed")
def test_alerts_are_raised_by_their_trouble_only() -> None:
    """The simulated series of `alerts_test.yaml` raise exactly the expected alerts."""
    command = ["promtool", "test", "rules", "alerts_test.yaml"]
    result = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)  # noqa: S603  our own

    assert 0 == result.returncode, result.stdout + result.stderr
