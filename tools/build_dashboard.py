"""Builds the Grafana dashboard from the list of panels below: `python -m tools.build_dashboard [--check]`.

The names of metrics are those of the Prometheus exporter of OpenTelemetry: dots become underscores, and unit and kind
are appended (https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/). A test compares each
with what a real exporter writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from attrs import frozen

__all__ = ("ROWS", "Panel", "Query", "build_dashboard", "main")

DASHBOARD: Final = Path(__file__).parents[1] / "contrib" / "grafana" / "veriff-async.json"
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}

# Every query counts the chosen processes only. `$__rate_interval` spans four scrapes at least.
CHOSEN: Final = 'job=~"$job", instance=~"$instance"'
RATE: Final = "[$__rate_interval]"

WIDTH: Final = 24
HEIGHT: Final = 7
COLORS: Final = {"approved": "green", "declined": "red", "resubmission_requested": "orange", "expired": "#8e8e8e"}


@frozen
class Query:
    """A query with the text of its legend.

    Attributes:
        expression: PromQL, in which ``{}`` stands for the chosen processes and ``{"a=b"}`` for these with another
            matcher.
        legend: The text, with labels as ``{{label}}``.
    """

    expression: str
    legend: str = ""


@frozen
class Panel:
    """A panel.

    Attributes:
        title: Its title.
        description: The meaning, and what to do.
        unit: Grafana's id of a unit.
        queries: Its queries.
        kind: The kind of the visualization.
        stacked: Whether the areas of the queries add up.
        red_above: The value from which it is red.
        width: Columns out of 24.
    """

    title: str
    description: str
    unit: str
    queries: list[Query]
    kind: str = "timeseries"
    stacked: bool = False
    red_above: float | None = None
    width: int = 8


def count(metric: str, by: str = "", *, only: str = "") -> str:
    """Return the events per second of a counter or histogram, by some labels."""
    chosen = f"{CHOSEN}, {only}" if only else CHOSEN
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{chosen}}}{RATE}))"


def total(metric: str, by: str = "", *, only: str = "") -> str:
    """Return the events in the interval of the dashboard."""
    return count(metric, by, only=only).replace("rate(", "increase(").replace(RATE, "[$__range]")


def quantile(share: float, metric: str, by: str = "", *, only: str = "") -> str:
    """Return a quantile of a histogram, by some labels."""
    return f"histogram_quantile({share}, {count(f'{metric}_bucket', f'le, {by}' if by else 'le', only=only)})"


def now(metric: str, by: str = "", function: str = "sum") -> str:
    """Return the present value of a gauge."""
    return f"{function}{f' by ({by})' if by else ''} ({metric}{{{CHOSEN}}})"


CALLS: Final = "veriff_call_duration_seconds"
ATTEMPTS: Final = "http_client_request_duration_seconds"
WEBHOOKS: Final = "messaging_process_duration_seconds"
DECISIONS: Final = "veriff_decision_duration_seconds"
OPERATION: Final = "veriff_operation"
STATUS: Final = "veriff_decision_status"
FAILED: Final = 'error_type!=""'


ROWS: Final[dict[str, tuple[Panel, ...]]] = {
    "Overview": (
        Panel(
            "Decisions",
            "Decisions that this application learned of in the interval of the dashboard. Zero while sessions are "
            "submitted: look at webhooks, then at the inbox.",
            "short",
            [Query(total(f"{DECISIONS}_count"))],
            kind="stat",
            width=4,
        ),
        Panel(
            "Time to decision, median",
            "From the submission to the decision. Veriff decides in seconds to minutes; when it rises for all "
            "statuses, Veriff is slow: say so to your users.",
            "s",
            [Query(f"histogram_quantile(0.5, {total(f'{DECISIONS}_bucket', 'le')})")],
            kind="stat",
            width=4,
        ),
        Panel(
            "Failed calls",
            "Share of the calls that ended with an error after all retries. See 'Failed calls by error'.",
            "percentunit",
            [Query(f"({count(f'{CALLS}_count', only=FAILED)} or vector(0)) / {count(f'{CALLS}_count')}")],
            kind="stat",
            red_above=0.05,
            width=4,
        ),
        Panel(
            "Oldest wait",
            "Age of the session that coroutines have waited for longest. It grows while Veriff has not decided. If "
            "decisions exist in the Customer Portal, webhooks are lost and polls fail.",
            "s",
            [Query(now("veriff_wait_max_age_seconds", function="max"))],
            kind="stat",
            red_above=3600,
            width=4,
        ),
        Panel(
            "Refused webhooks",
            "Requests to the webhook address that were refused in the interval of the dashboard, see 'Refused "
            "requests'.",
            "short",
            [Query(f"{total('veriff_webhook_refused_total')} or vector(0)")],
            kind="stat",
            red_above=10,
            width=4,
        ),
        Panel(
            "Failing inboxes",
            "Clients whose inbox fails now, so that they poll. Check the disk or the Redis server, and the log of "
            "veriff_async.waiting.",
            "short",
            [Query(now("veriff_inbox_failing"))],
            kind="stat",
            red_above=1,
            width=4,
        ),
    ),
    "Traffic": (
        Panel(
            "Calls by operation",
            "Calls to Veriff per second; one call has one or more attempts. A sudden fall: look at errors, then at "
            "the traffic of the application.",
            "reqps",
            [Query(count(f"{CALLS}_count", OPERATION), "{{veriff_operation}}")],
            stacked=True,
        ),
        Panel(
            "Duration of calls, 95th percentile",
            "With all attempts and pauses. High with few retries: Veriff or the network is slow. High with many: see "
            "'Retries by failure'.",
            "s",
            [Query(quantile(0.95, CALLS, OPERATION), "{{veriff_operation}}")],
        ),
        Panel(
            "Duration of one attempt",
            "Without retries and pauses. If this rises alone, the network or Veriff became slower.",
            "s",
            [
                Query(quantile(share, ATTEMPTS), name)
                for share, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
            ],
        ),
    ),
    "Errors and retries": (
        Panel(
            "Failed calls by error",
            "Calls that raised an error to the application, by HTTP status or class. 401: a secret was deleted or is "
            "wrong, run veriff-async doctor. OutcomeUnknownError: a session may exist, look for it before you create "
            "another.",
            "reqps",
            [Query(count(f"{CALLS}_count", "error_type", only=FAILED), "{{error_type}}")],
            stacked=True,
        ),
        Panel(
            "Retries by failure",
            "Attempts that repeated an earlier one, by the failure of that one. 503 or 500: Veriff has trouble. "
            "Names of errors: the network or a proxy.",
            "reqps",
            [Query(count("veriff_call_retries_total", "error_type"), "{{error_type}}")],
            stacked=True,
        ),
        Panel(
            "Responses by status",
            "Attempts by the status of their response; those without a response have none. 401 and 403: credentials. "
            "404 for a few polls is normal.",
            "reqps",
            [Query(count(f"{ATTEMPTS}_count", "http_response_status_code"), "{{http_response_status_code}}")],
            stacked=True,
        ),
    ),
    "Rate limits": (
        Panel(
            "Pauses",
            "Responses with 429 or 503 that paused all calls of a client. If they last, ask Veriff for a higher "
            "limit, or lower max_uploads and the rate of batches and polls.",
            "reqps",
            [
                Query(
                    count("veriff_rate_limit_pause_duration_seconds_count", "http_response_status_code"),
                    "{{http_response_status_code}}",
                )
            ],
            stacked=True,
            width=12,
        ),
        Panel(
            "Share of time in pauses",
            "Seconds of pauses per second and process. Near 100 %, nothing is sent: see 'Pauses'.",
            "percentunit",
            [Query(count("veriff_rate_limit_pause_duration_seconds_sum", "instance"), "{{instance}}")],
            width=12,
        ),
    ),
    "Uploads and downloads": (
        Panel(
            "Running now",
            "Uploads at max_uploads (8 by default) all the time mean a queue: raise max_uploads, or find out why "
            "they are slow.",
            "short",
            [
                Query(now("veriff_uploads_active", "instance"), "uploads {{instance}}"),
                Query(now("veriff_downloads_active", "instance"), "downloads {{instance}}"),
            ],
        ),
        Panel(
            "Duration of an upload",
            "From the first attempt to the response, pauses included.",
            "s",
            [
                Query(quantile(share, CALLS, only='veriff_operation="upload_media"'), name)
                for share, name in ((0.5, "median"), (0.95, "95 %"))
            ],
        ),
        Panel(
            "Bytes",
            "Bodies of requests, and of the responses to GET requests. Sent bytes are the base64 of pictures, a third "
            "more than their files.",
            "Bps",
            [
                Query(count("http_client_request_body_size_bytes_sum"), "sent"),
                Query(count("http_client_response_body_size_bytes_sum"), "received"),
            ],
        ),
    ),
    "Decisions": (
        Panel(
            "Decisions by status",
            "Decisions per second. Many resubmissions: check pictures before the upload, see the guide on checking "
            "pictures.",
            "ops",
            [Query(count(f"{DECISIONS}_count", STATUS), "{{veriff_decision_status}}")],
            stacked=True,
        ),
        Panel(
            "Time to decision by status, 95th percentile",
            "From the submission until this application learned of the decision, by a webhook or a poll.",
            "s",
            [Query(quantile(0.95, DECISIONS, STATUS), "{{veriff_decision_status}}")],
        ),
        Panel(
            "Decisions by source",
            "How the decision was learned; one whose webhook comes after a poll counts for both. Many by poll although "
            "there is an inbox: webhooks are lost or late.",
            "ops",
            [Query(count(f"{DECISIONS}_count", "veriff_decision_source"), "{{veriff_decision_source}}")],
            stacked=True,
        ),
    ),
    "Waits and wake-up": (
        Panel(
            "Waiting coroutines",
            "Each waits for a decision. A steady rise without decisions: see 'Decisions by source' and 'Oldest wait'.",
            "short",
            [Query(now("veriff_waiters", "instance"), "{{instance}}")],
            stacked=True,
            width=6,
        ),
        Panel(
            "Oldest wait by process",
            "Age of the oldest session that coroutines wait for. One process far above the others does not see the "
            "inbox.",
            "s",
            [Query(now("veriff_wait_max_age_seconds", "instance", "max"), "{{instance}}")],
            width=6,
        ),
        Panel(
            "Wake-up delay",
            "From the record in the inbox to the coroutine that waits. Above a second: the inbox is slow, or the "
            "event loop is blocked.",
            "s",
            [
                Query(quantile(share, "veriff_wait_wake_up_duration_seconds"), name)
                for share, name in ((0.5, "median"), (0.95, "95 %"))
            ],
            width=6,
        ),
        Panel(
            "Polls by result",
            "Requests for a decision on behalf of waits. They rise while the inbox fails; errors are repeated.",
            "reqps",
            [Query(count("veriff_polls_total", "veriff_poll_result"), "{{veriff_poll_result}}")],
            stacked=True,
            width=6,
        ),
    ),
    "Webhooks": (
        Panel(
            "Webhooks by kind",
            "Verified webhooks per second. None while sessions are submitted: check the address in the Customer "
            "Portal, then run veriff-async doctor --webhook-url.",
            "reqps",
            [Query(count(f"{WEBHOOKS}_count", "veriff_event_kind"), "{{veriff_event_kind}}")],
            stacked=True,
        ),
        Panel(
            "Refused requests",
            "Not from Veriff, or changed on the way. Mismatch: a secret was rotated without this process, or a proxy "
            "changes bodies; see the guide on wrong signatures. Missing: a proxy drops headers, or a stranger asks.",
            "reqps",
            [Query(count("veriff_webhook_refused_total", "veriff_webhook_refusal"), "{{veriff_webhook_refusal}}")],
            stacked=True,
        ),
        Panel(
            "Missed webhooks",
            "Decisions that a poll found although the inbox works, so that their webhooks are late or lost. Run "
            "reconcile after an outage of the receiver.",
            "ops",
            [Query(count("veriff_webhooks_missed_total", STATUS), "{{veriff_decision_status}}")],
            stacked=True,
        ),
        Panel(
            "Age of webhooks",
            "From the decision, by Veriff's clock, to the record of its webhook. An hour or more: the first delivery "
            "was not answered with 200, and Veriff repeated it.",
            "s",
            [
                Query(quantile(share, "veriff_webhook_age_seconds"), name)
                for share, name in ((0.5, "median"), (0.95, "95 %"))
            ],
        ),
        Panel(
            "Time to answer, 95th percentile",
            "From the first byte to the response. Veriff waits about five seconds (reported by integrators); near "
            "that, the inbox is slow.",
            "s",
            [Query(quantile(0.95, WEBHOOKS, "veriff_webhook_result"), "{{veriff_webhook_result}}")],
            red_above=4,
        ),
        Panel(
            "Events in handlers",
            "Events whose handlers run now, and dead letters: events whose last attempt failed. Repair the handler, "
            "and queue them again.",
            "short",
            [
                Query(now("veriff_deliveries_running"), "running"),
                Query(total("veriff_deliveries_dead_total"), "dead letters in the interval"),
            ],
        ),
        Panel(
            "Delay of events",
            "From the record of an event until its first attempt. It grows if handlers are slower than events arrive: "
            "make them faster, or raise max_running.",
            "s",
            [
                Query(quantile(share, "veriff_delivery_delay_seconds"), name)
                for share, name in ((0.5, "median"), (0.95, "95 %"))
            ],
            width=12,
        ),
        Panel(
            "Duration of handlers, 95th percentile",
            "Of a call of a handler, by its name.",
            "s",
            [
                Query(
                    quantile(0.95, "veriff_handler_duration_seconds", "veriff_handler_name"), "{{veriff_handler_name}}"
                )
            ],
            width=12,
        ),
    ),
    "Inbox": (
        Panel(
            "Records in progress",
            "Webhooks that the inbox is recording. Above some dozens, it is slow, and webhooks are answered 503.",
            "short",
            [Query(now("veriff_inbox_records_active", "instance"), "{{instance}}")],
        ),
        Panel(
            "Backlog",
            "Sessions with waits that changed and were not looked up yet. A lasting backlog delays wake-ups: the "
            "inbox is slow.",
            "short",
            [Query(now("veriff_inbox_backlog", "instance"), "{{instance}}")],
        ),
        Panel(
            "Failing clients",
            "Clients whose inbox fails. Waits continue by polling, so decisions come late: repair the inbox first.",
            "short",
            [Query(now("veriff_inbox_failing", "instance"), "{{instance}}")],
            red_above=1,
        ),
    ),
    "Batches": (
        Panel(
            "Jobs in progress",
            "Running jobs have not submitted their session; waiting ones have no decision yet.",
            "short",
            [Query(now("veriff_batch_jobs", "veriff_batch_job_state"), "{{veriff_batch_job_state}}")],
            stacked=True,
            width=6,
        ),
        Panel(
            "Ended jobs by state",
            "Jobs per second. unknown needs a person: see the guide on batches.",
            "ops",
            [
                Query(
                    count("veriff_batch_job_duration_seconds_count", "veriff_batch_job_state"),
                    "{{veriff_batch_job_state}}",
                )
            ],
            stacked=True,
            width=6,
        ),
        Panel(
            "Duration of a job, 95th percentile",
            "In one run, by the state in which it ended.",
            "s",
            [
                Query(
                    quantile(0.95, "veriff_batch_job_duration_seconds", "veriff_batch_job_state"),
                    "{{veriff_batch_job_state}}",
                )
            ],
            width=6,
        ),
        Panel(
            "Rate and pauses",
            "Requests per second that a batch allows; it falls when Veriff objects. A paused batch waits for the end "
            "of an outage and resumes by itself.",
            "short",
            [
                Query(now("veriff_batch_rate_per_second", "instance"), "requests per second {{instance}}"),
                Query(now("veriff_batch_paused", "instance"), "paused {{instance}}"),
            ],
            width=6,
        ),
    ),
}


def build_dashboard() -> dict[str, object]:
    """Return the dashboard as Grafana imports it."""
    panels: list[dict[str, object]] = []
    y = 0
    for row, content in ROWS.items():
        panels.append(_row(row, len(panels) + 1, y))
        y, x = y + 1, 0
        for panel in content:
            if x + panel.width > WIDTH:
                y, x = y + HEIGHT, 0
            height = 4 if panel.kind == "stat" else HEIGHT
            panels.append(_panel(panel, len(panels) + 1, {"x": x, "y": y, "w": panel.width, "h": height}))
            x += panel.width
        y += 4 if content[-1].kind == "stat" else HEIGHT
    return {
        "uid": "veriff-async",
        "title": "veriff-async",
        "description": "Calls to Veriff, decisions, webhooks, inbox and batches of applications that use veriff-async.",
        "tags": ["veriff-async"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,  # one crosshair for all panels
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": []},
        "links": [],
        "panels": panels,
    }


def _variables() -> list[dict[str, object]]:
    def choose(name: str, label: str, query: str) -> dict[str, object]:
        return {
            "type": "query",
            "name": name,
            "label": label,
            "datasource": SOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,  # whenever the interval changes
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
            "sort": 1,
            "hide": 0,
        }

    return [
        {"type": "datasource", "name": "datasource", "label": "Prometheus", "query": "prometheus", "hide": 0},
        choose("job", "Job", f"label_values({CALLS}_count, job)"),
        choose("instance", "Process", f'label_values({CALLS}_count{{job=~"$job"}}, instance)'),
    ]


def _row(title: str, number: int, y: int) -> dict[str, object]:
    return {
        "type": "row",
        "id": number,
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
    }


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, object]:
    steps: list[dict[str, object]] = [{"color": "green", "value": None}]
    if panel.red_above is not None:
        steps.append({"color": "red", "value": panel.red_above})
    defaults: dict[str, object] = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
    options: dict[str, object]
    if panel.kind == "stat":
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "value",
            "justifyMode": "auto",
            "orientation": "auto",
        }
        defaults["noValue"] = "none"
    else:
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 30 if panel.stacked else 5,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "off" if panel.red_above is None else "line"},
        }
    return {
        "type": panel.kind,
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": SOURCE,
                "expr": query.expression,
                "legendFormat": query.legend or "__auto",
                "instant": panel.kind == "stat",
                "range": panel.kind != "stat",
            }
            for index, query in enumerate(panel.queries)
        ],
        "fieldConfig": {
            "defaults": defaults,
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": status},
                    "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": color}}],
                }
                for status, color in COLORS.items()
                if any(STATUS in query.legend for query in panel.queries)
            ],
        },
        "options": options,
    }


def main(arguments: list[str]) -> int:
    """Write the dashboard, or with ``--check`` compare it."""
    text = json.dumps(build_dashboard(), indent=1) + "\n"
    if "--check" in arguments:
        return int(DASHBOARD.read_text() != text)
    DASHBOARD.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
