"""The pages about OpenTelemetry show what is exported."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Final

import pytest

from tests.conditions import without_slow_steps
from tests.pages import REFERENCE, ROOT, Row, check_page, table
from veriff_async._telemetry.metrics import METRICS

PAGE: Final = ROOT / "docs" / "how-to" / "opentelemetry.md"
HEAD: Final = """# Telemetry

[OpenTelemetry](../how-to/opentelemetry.md) describes the set-up and the spans.

```{eval-rst}
.. entries::

   telemetry.Telemetry
```

## Metrics

Exporters may change names: in Prometheus, dots become underscores, and units and `_total` are appended. A gauge and an
up-down counter have the value of the moment at which they are collected. An attribute that does not apply is omitted.

"""


def test_reference_lists_all_metrics() -> None:
    """The reference has each metric of the table, with its kind, unit, attributes and meaning."""
    rows = [
        Row(
            (
                f"`{name}`",
                f"{metric.kind}, `{metric.unit}`",
                ", ".join(f"`{key}`" for key in metric.attributes),
                metric.description,
            )
        )
        for name, metric in METRICS.items()
    ]
    heads = ("metric", "kind, unit", "attributes", "meaning")
    check_page(REFERENCE / "telemetry.md", f"{HEAD}{table(heads, rows)}\n")


@pytest.mark.usefixtures("without_coverage")
def test_page_shows_the_spans_of_a_verification() -> None:
    """The tree of the page is what the script prints: a repeated 503, a lost webhook, and a restart in between."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "benchmarks.span_tree"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (0, "") == (done.returncode, without_slow_steps(done.stderr))
    tree = done.stdout.strip("\n")
    page = PAGE.read_text(encoding="utf-8")
    check_page(PAGE, re.sub(r"```text\n.*?```\n", lambda _: f"```text\n{tree}\n```\n", page, count=1, flags=re.DOTALL))
