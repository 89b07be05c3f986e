"""Print the spans of one verification over two processes: ``python -m benchmarks.span_tree``.

The first process submits a session; its first upload is refused with 503 and repeated. Then it ends, and Veriff decides
while no process runs, so that the webhook is lost. The second process waits: a poll finds the decision. At last Veriff
repeats the webhook. The documentation shows the output, and a test compares both.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from aiohttp import web
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from veriff_async import Media, PollPolicy, RetryPolicy, VeriffClient, WebhookReceiver
from veriff_async.inbox import SqliteInbox
from veriff_async.sandbox import Fault, Sandbox
from veriff_async.webhooks import aiohttp_app

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

__all__ = ("record_spans", "write_tree")

_MODULE: Final = "benchmarks.span_tree"
_ROOT: Final = Path(__file__).parents[1]
_JPEG: Final = b"\xff\xd8\xff\xe0" + bytes(2_000)
_SHOWN: Final = (
    "http.response.status_code",
    "http.request.resend_count",
    "veriff.decision.status",
    "veriff.decision.source",
    "veriff.webhook.result",
    "error.type",
)
"""Attributes in the tree; ids, sizes and times differ each time."""


async def record_spans() -> list[list[dict[str, object]]]:
    """Run the verification, and return the spans of each process."""
    with TemporaryDirectory() as folder:
        async with Sandbox() as sandbox:
            sandbox.inject(Fault.status(503), method="POST", path="/v1/sessions/*/media")
            first = await _start("submit", folder, sandbox)
            spans = [await _read(first)]
            (session,) = sandbox.sessions
            sandbox.decide(session.id, "approved")  # the webhook has no address yet, and is lost
            second = await _start("wait", folder, sandbox, session.id)
            sandbox.webhook_url = str(await _read(second))
            await _read(second)  # the wait has ended
            sandbox.resend(session.id)
            await sandbox.wait_idle()
            assert second.stdin is not None
            second.stdin.close()
            spans.append(await _read(second))
            for process in (first, second):
                await process.wait()
    return spans  # type: ignore[return-value]


async def _start(role: str, folder: str, sandbox: Sandbox, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", _MODULE, role, f"{folder}/inbox.db", json.dumps(sandbox.environ), *arguments),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )


async def _read(process: asyncio.subprocess.Process) -> object:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        msg = "a process of the verification has failed, see its output"
        raise RuntimeError(msg)
    return json.loads(line)


async def _submit(path: str, environ: dict[str, str]) -> None:
    tracer, retry = trace.get_tracer("application"), RetryPolicy(initial_backoff=0.01)
    async with SqliteInbox(path) as inbox, VeriffClient.from_env(environ, inbox=inbox, retry=retry) as veriff:
        with tracer.start_as_current_span("POST /verifications"):
            session = await veriff.create_session(vendor_data="user-42")
            await session.upload(Media(_JPEG, "document-front"))
            await session.submit()


async def _wait(path: str, environ: dict[str, str], session_id: str) -> None:
    poll = PollPolicy(initial_delay=0.01)
    async with SqliteInbox(path) as inbox, VeriffClient.from_env(environ, inbox=inbox, poll=poll) as veriff:
        receiver = WebhookReceiver(veriff.credentials, inbox)
        receiver.on(name="store_decision")(lambda _delivery: None)
        runner = web.AppRunner(aiohttp_app(receiver))
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            _print(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            with trace.get_tracer("application").start_as_current_span("GET /verifications"):
                await veriff.session(session_id).wait_for_decision(timeout=30)
            _print("decided")
            await asyncio.to_thread(sys.stdin.read)
        finally:
            await runner.cleanup()


def _run(role: str, path: str, environ: str, *arguments: str) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    work = _submit(path, json.loads(environ)) if role == "submit" else _wait(path, json.loads(environ), *arguments)
    asyncio.run(work)
    _print([_as_json(span) for span in exporter.get_finished_spans()])


def _as_json(span: ReadableSpan) -> dict[str, object]:
    return {
        "id": span.context.span_id,
        "parent": None if span.parent is None else span.parent.span_id,
        "name": span.name,
        "kind": span.kind.name,
        "started": span.start_time,
        "attributes": {name: value for name, value in (span.attributes or {}).items() if name in _SHOWN},
        "events": [[event.name, (event.attributes or {}).get("error.type")] for event in span.events],
        "links": [link.context.span_id for link in span.links],
    }


def _print(value: object) -> None:
    print(json.dumps(value), flush=True)


def write_tree(processes: Sequence[Sequence[dict[str, object]]]) -> str:
    """Write the spans of all processes as a tree, oldest first."""
    names = {span["id"]: span["name"] for spans in processes for span in spans}
    lines: list[str] = []
    for number, spans in enumerate(processes, start=1):
        ordered = sorted(spans, key=lambda span: str(span["started"]))
        lines += [f"process {number}", *_branch(ordered, None, names, "  "), ""]
    return "\n".join(lines[:-1])


def _branch(
    spans: Sequence[dict[str, object]], parent: object, names: dict[object, object], indent: str
) -> Iterator[str]:
    for span in spans:
        if span["parent"] == parent:
            yield f"{indent}- {span['name']}  [{span['kind']}]"
            attributes: dict[str, object] = span["attributes"]  # type: ignore[assignment]
            shown = [f"{name} = {attributes[name]}" for name in _SHOWN if name in attributes]
            for event, reason in span["events"]:  # type: ignore[attr-defined]
                shown.append(f"event {event}" + ("" if reason is None else f": {reason}"))
            shown += [f"link to {names.get(link, 'an unknown span')}" for link in span["links"]]  # type: ignore[attr-defined]
            yield from (f"{indent}    {line}" for line in shown)
            yield from _branch(spans, span["id"], names, indent + "  ")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _run(*sys.argv[1:])
    else:
        print(write_tree(asyncio.run(record_spans())))
