"""The cost of OpenTelemetry: absent, without an SDK, and with a batch exporter, on small uploads and on webhooks.

Run as a process, it is one contender that does one work. ``VERIFF_BEFORE`` names a checkout of an earlier version, with
which all contenders are compared then; otherwise they are compared with ``telemetry=False``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import sys
import time
from importlib.abc import MetaPathFinder
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from benchmarks.bodies import ORDINARY, as_body, unlike
from benchmarks.measure import Spread, in_turn, ratios, run_module
from benchmarks.sink import running_sink
from benchmarks.table import Goal, Row, Table
from benchmarks.work import KEY, SECRET, Needs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.measure import Plan

__all__ = ("run",)

_BEFORE: Final = "VERIFF_BEFORE"
_MODULE: Final = "benchmarks.telemetry"
_OFF: Final = "telemetry=False"
_ABSENT: Final = "not installed"
_API: Final = "API without SDK"
_SDK: Final = "batch exporter"
_OTLP: Final = "batch exporter, OTLP encoded"
_EARLIER: Final = "before"
_NEEDS: Final = {
    _API: Needs(modules=("opentelemetry",)),
    _SDK: Needs(modules=("opentelemetry.sdk",)),
    _OTLP: Needs(modules=("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common")),
}
_GOALS: Final = {_ABSENT: 1.01, _API: 1.03, _SDK: 1.15}
_JPEG: Final = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")
_AT_ONCE: Final = 16


def run(plan: Plan) -> Iterator[Table]:
    """Measure uploads and webhooks."""
    contenders = [_OFF, _ABSENT, _API, _SDK, _OTLP]
    contenders = [name for name in contenders if name not in _NEEDS or not _NEEDS[name].missing]
    if os.environ.get(_BEFORE):
        contenders.insert(0, _EARLIER)
    count = 1 if plan.smoke else 100
    with TemporaryDirectory() as folder, running_sink() as port:
        path = Path(folder, "picture.jpg")
        path.write_bytes(_JPEG + bytes(20_000 - len(_JPEG)))
        yield _table("uploads of 20 KB, one in a call", ["uploads", port, str(path), 1, count], contenders, plan)
        yield _table("uploads of 20 KB, 16 in a call", ["uploads", port, str(path), 16, count], contenders, plan)
    yield _table("webhooks over HTTP, SqliteInbox", ["webhooks", "sqlite", 15 * count], contenders, plan)
    yield _table("webhooks over HTTP, MemoryInbox", ["webhooks", "memory", 30 * count], contenders, plan)


def _table(title: str, work: Sequence[object], contenders: Sequence[str], plan: Plan) -> Table:
    found = in_turn(contenders, plan.rounds, lambda name: float(run_module(_MODULE, json.dumps([name, *work]))))
    base = contenders[0]
    column = f"CPU x {base}"
    goals = (Goal(row=name, column=column, at_most=most) for name, most in _GOALS.items() if name in found)
    return Table(
        subject="telemetry",
        title=title,
        columns=(column, "CPU us/each"),
        rows=tuple(
            Row(name, {column: ratios(costs, found[base]), "CPU us/each": Spread.of(cost * 1e6 for cost in costs)})
            for name, costs in found.items()
        ),
        goals=() if plan.smoke else tuple(goals),
    )


class _Absent(MetaPathFinder):
    def find_spec(self, name: str, _path: object, _target: object = None) -> None:
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name=name)


def _prepare(contender: str) -> dict[str, Any]:
    """Set the process up as a contender, before the library is imported, and return the options of a client."""
    if contender == _EARLIER:
        sys.path.insert(0, os.environ[_BEFORE])
    elif contender == _ABSENT:
        sys.meta_path.insert(0, _Absent())
    elif contender in {_SDK, _OTLP}:
        _configure_sdk(encodes=contender == _OTLP)
    return {"telemetry": False} if contender == _OFF else {}


def _configure_sdk(*, encodes: bool) -> None:
    from opentelemetry import metrics, trace  # noqa: PLC0415  it may not be here
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import (  # noqa: PLC0415
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )

    class Exporter(SpanExporter):
        def export(self, spans: Sequence[Any]) -> SpanExportResult:
            if encodes:
                from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: PLC0415

                encode_spans(spans).SerializeToString()
            return SpanExportResult.SUCCESS

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(Exporter(), max_queue_size=100_000))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False))


async def _upload(options: dict[str, Any], port: int, path: str, in_call: int, count: int) -> float:
    from veriff_async import Credentials, Media, VeriffClient  # noqa: PLC0415  of the version under test

    credentials = Credentials(KEY, SECRET)
    async with VeriffClient(
        credentials, base_url=f"http://127.0.0.1:{port}", max_uploads=_AT_ONCE, **options
    ) as veriff:
        session = await veriff.create_session()

        async def upload_all() -> None:
            calls = ([Media(path, "document-front")] * in_call for _ in range(_AT_ONCE // in_call))
            await asyncio.gather(*(session.upload(*media) for media in calls))

        await upload_all()
        gc.collect()
        began = time.process_time()
        for _ in range(count):
            await upload_all()
        return (time.process_time() - began) / count / _AT_ONCE


def _webhooks(count: int) -> list[tuple[dict[str, str], bytes]]:
    from veriff_async import Credentials  # noqa: PLC0415

    credentials, bodies = Credentials(KEY, SECRET), [as_body(unlike(ORDINARY, number)) for number in range(count)]
    common = {"content-type": "application/json", "x-auth-client": KEY}
    return [({**common, "x-hmac-signature": credentials.sign(body)}, body) for body in bodies]


def _post(port: int, webhooks: Sequence[tuple[dict[str, str], bytes]]) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for headers, body in webhooks:
            lines = [f"{name}: {value}" for name, value in headers.items()]
            head = "\r\n".join(["POST / HTTP/1.1", "host: here", f"content-length: {len(body)}", *lines, "", ""])
            connection.sendall(head.encode() + body)
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200"), answer


async def _serve(options: dict[str, Any], kind: str, count: int) -> float:
    from aiohttp import web  # noqa: PLC0415

    from veriff_async import Credentials, WebhookReceiver  # noqa: PLC0415
    from veriff_async.inbox import MemoryInbox, SqliteInbox  # noqa: PLC0415
    from veriff_async.webhooks import aiohttp_app  # noqa: PLC0415

    webhooks, folder = _webhooks(2 * count), TemporaryDirectory()
    inbox = MemoryInbox() if kind == "memory" else SqliteInbox(Path(folder.name, "inbox.db"))
    receiver = WebhookReceiver(Credentials(KEY, SECRET), inbox, **options)
    runner = web.AppRunner(aiohttp_app(receiver), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port, began = runner.addresses[0][1], 0.0
    for part in (webhooks[:count], webhooks[count:]):
        # A process of its own: the processor time is that of the receiver alone.
        sender = get_context("fork").Process(target=_post, args=(port, part))
        gc.collect()
        began = time.process_time()
        sender.start()
        while sender.is_alive():  # noqa: ASYNC110  a process has no event
            await asyncio.sleep(0.01)
        assert sender.exitcode == 0
    spent = time.process_time() - began
    await runner.cleanup()
    await inbox.aclose()
    folder.cleanup()
    return spent / count


def _run(contender: str, work: str, *arguments: Any) -> None:  # noqa: ANN401  from JSON
    options = _prepare(contender)
    print(asyncio.run(_upload(options, *arguments) if work == "uploads" else _serve(options, *arguments)))


if __name__ == "__main__":
    _run(*json.loads(sys.argv[1]))
