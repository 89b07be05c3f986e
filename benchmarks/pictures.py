"""How well the checks of `inspect_media` find spoiled pictures, on drawn ones: `python -m benchmarks.pictures`.

    python -m benchmarks.pictures --seconds 300 --out figures.jsonl             # a scene takes about ten seconds
    python -m benchmarks.pictures --seconds 100 --sharp --seed 2 --out sharp.jsonl
    python -m benchmarks.pictures --read figures.jsonl sharp.jsonl --svg FILE.svg   # tables, and the curves of the docs

Scenes are drawn by `picture_scenes`. Each is measured sharp, and once for each fault and strength. One random half of
the scenes chooses thresholds, the other half evaluates the defaults of `InspectionThresholds`.
"""

from __future__ import annotations

import argparse
import json
import time
from io import BytesIO
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias

from attrs import asdict, evolve, frozen

from benchmarks.picture_scenes import FACE_FAULTS, FAULTS, Fault, draw_document, draw_face_scene, photograph, write_jpeg
from veriff_async import CheckName, InspectionThresholds, PictureThresholds
from veriff_async._media.decode import decode
from veriff_async._media.picture_measures import WORK_SIDE, measure_picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Curve: TypeAlias = "tuple[Fault, list[tuple[float, float]]]"
"""A fault, and the recall at each strength."""

_EVERYTHING: Final = PictureThresholds(**dict.fromkeys(asdict(PictureThresholds()), 0.0))
_DOCUMENTS: Final = 10
_OTHER_STRENGTHS: Final = 0.35
"""Share of the scenes that are measured at a strength that is not the one that matters."""
_COLOURS: Final = ("#2a6f97", "#bc4749", "#386641", "#7b2cbf", "#c77d0a", "#14746f", "#555b6e", "#9d4edd", "#d62828")


@frozen
class Row:
    """The measurements of one picture.

    Attributes:
        scene: The name of its scene.
        kind: ``document`` or ``face``.
        fault: The name of the fault, or ``sharp``.
        strength: The strength of the fault.
        values: The measurements by the name of the check.
    """

    scene: str
    kind: str
    fault: str
    strength: float
    values: dict[str, float | None]


def measure(content: bytes, thresholds: PictureThresholds = _EVERYTHING) -> dict[str, float | None]:
    """Decode a JPEG as `inspect_media` does, and return the values that have thresholds; all by default."""
    decoded = decode(BytesIO(content), "image/jpeg", max_side=WORK_SIDE)
    values = measure_picture(decoded.image, decoded.full_size, thresholds)
    return {name.value: value for name, value in values.items()}


def measure_scenes(seconds: float, seed: int, *, spoil: bool) -> Iterator[Row]:
    """Draw scenes for some seconds, and measure each of them sharp, and spoiled in every way if that is asked for."""
    rng, end = Random(seed), time.monotonic() + seconds  # noqa: S311  drawings
    documents = [draw_document(rng) for _ in range(_DOCUMENTS)]
    number = 0
    while time.monotonic() < end:
        for kind, faults in (("document", FAULTS), ("face", FACE_FAULTS)):
            scene = photograph(rng, rng.choice(documents)) if kind == "document" else draw_face_scene(rng)
            name = f"{seed}-{number}"
            yield Row(name, kind, "sharp", 0, measure(write_jpeg(scene, scene.image)))
            for fault in faults if spoil else ():
                for strength in fault.strengths:
                    if strength != fault.matters and rng.random() > _OTHER_STRENGTHS:
                        continue
                    values = measure(write_jpeg(scene, fault.apply(scene, strength, rng)))
                    yield Row(name, kind, fault.name, strength, values)
        number += 1


def fails(values: Mapping[str, float | None], thresholds: PictureThresholds) -> set[CheckName]:
    """Return the checks that fail."""
    failed: set[CheckName] = set()
    for name in CheckName:
        value, limit = values.get(name), thresholds.limit(name)
        if value is not None and limit is not None and (value < limit if name.is_minimum else value > limit):
            failed.add(name)
    return failed


def split(rows: Iterable[Row], seed: int = 1) -> tuple[list[Row], list[Row]]:
    """Split rows at random into two halves; all rows of a scene are in the same."""
    halves: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        halves[Random(f"{seed} {row.scene}").random() < 1 / 2].append(row)  # noqa: S311  a split
    return halves


def recall(rows: Sequence[Row], thresholds: PictureThresholds, check: str | None = None) -> float:
    """Return the share of rows that fail a check, or any."""
    found = [fails(row.values, thresholds) for row in rows]
    return sum(bool(failed) if check is None else check in failed for failed in found) / max(1, len(found))


def choose(check: CheckName, sharp: Sequence[Row], spoiled: Sequence[Row]) -> float | None:
    """Return the threshold halfway between the worst hundredth of sharp pictures and the best tenth of spoiled ones.

    Halfway, because drawn pictures are sharper than those of any camera: the strictest threshold would refuse good
    photographs.
    """
    worst = sorted(_measured(sharp, check), reverse=not check.is_minimum)
    best = sorted(_measured(spoiled, check), reverse=check.is_minimum)
    return (worst[len(worst) // 100] + best[len(best) // 10]) / 2 if worst and best else None


def _measured(rows: Iterable[Row], check: CheckName) -> list[float]:
    return [value for row in rows if (value := row.values.get(check)) is not None]


def _select(rows: Iterable[Row], fault: str, strength: float) -> list[Row]:
    return [row for row in rows if row.fault == fault and row.strength == strength]


def print_tables(rows: Sequence[Row]) -> dict[str, list[Curve]]:
    """Print Markdown tables of recall and false positives, and return the curves by kind."""
    defaults = InspectionThresholds()
    curves: dict[str, list[Curve]] = {}
    for kind, limits, faults in (("document", defaults.document_front, FAULTS), ("face", defaults.face, FACE_FAULTS)):
        first, second = split([row for row in rows if row.kind == kind])
        sharp = [[row for row in half if row.fault == "sharp"] for half in (first, second)]
        print(f"\n{kind}: {len(sharp[0])} sharp pictures chose, {len(sharp[1])} evaluated")
        print(f"false positives of all checks together: {recall(sharp[1], limits):.1%}\n")
        print("| fault | unit | recall at each strength | false positives | default, halfway |\n|---|---|---|---|---|")
        curves[kind] = []
        for fault in faults:
            check = CheckName(fault.check)
            at = {
                strength: [_select(half, fault.name, strength) for half in (first, second)]
                for strength in fault.strengths
            }
            halfway = choose(check, sharp[0], at[fault.matters][0])
            used = limits
            if limits.limit(check) is None:
                used = evolve(limits, **{check.value: halfway})
            points = [(strength, recall(halves[1], used, fault.check)) for strength, halves in at.items() if halves[1]]
            curves[kind].append((fault, points))
            text = ", ".join(
                f"**{strength:g}: {share:.0%}**" if strength == fault.matters else f"{strength:g}: {share:.0%}"
                for strength, share in points
            )
            limit = limits.limit(check)
            print(
                f"| {fault.name} | {fault.unit} | {text} | {recall(sharp[1], used, fault.check):.1%} "
                f"| {'off' if limit is None else f'{limit:g}'}, {'-' if halfway is None else f'{halfway:.3g}'} |"
            )
    return curves


def draw_svg(curves: Sequence[Curve]) -> str:
    """Draw small charts of recall over strength, one for each fault; a dashed line marks the strength that matters."""
    wide, high, columns = 230, 150, 3
    rows = -(-len(curves) // columns)
    box = f'viewBox="0 0 {wide * columns} {high * rows}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="10" fill="#333">',
        f'<rect width="{wide * columns}" height="{high * rows}" fill="#fff"/>',
    ]
    for number, (fault, points) in enumerate(curves):
        left, top = number % columns * wide + 34, number // columns * high + 24
        inner_wide, inner_high = wide - 50, high - 62
        xs = [left + inner_wide * index / max(1, len(points) - 1) for index in range(len(points))]
        ys = [top + inner_high * (1 - share) for _, share in points]
        mark = next((x for x, (strength, _) in zip(xs, points, strict=True) if strength == fault.matters), left)
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(f'<text x="{left}" y="{top - 8}" font-weight="bold">{fault.name}</text>')
        for share in (0, 0.5, 1):
            y = top + inner_high * (1 - share)
            parts.append(f'<path d="M{left} {y:.1f}h{inner_wide}" stroke="#ddd"/>')
            parts.append(f'<text x="{left - 4}" y="{y + 3:.1f}" text-anchor="end">{share:.0%}</text>')
        parts.append(f'<path d="M{mark:.1f} {top}v{inner_high}" stroke="#999" stroke-dasharray="3 2"/>')
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, (strength, _) in zip(xs, ys, points, strict=True):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>')
            parts.append(f'<text x="{x:.1f}" y="{top + inner_high + 12}" text-anchor="middle">{strength:g}</text>')
        parts.append(f'<text x="{left}" y="{top + inner_high + 26}" fill="#777">{fault.unit}</text>')
    return "\n".join([*parts, "</svg>\n"])


def measure_time(rounds: int = 7) -> None:
    """Print the processor time of decoding and measuring a JPEG of twelve megapixels."""
    rng = Random(12)  # noqa: S311  drawings
    scene = photograph(rng, draw_document(rng))
    large = evolve(scene, image=scene.image.resize((4000, 3000)))
    content = write_jpeg(large, large.image)
    times: list[float] = []
    for _ in range(rounds):
        start = time.process_time()
        measure(content, InspectionThresholds().document_front)
        times.append(time.process_time() - start)
    print(f"12 megapixels, {len(content)} bytes: {sorted(times)[rounds // 2] * 1000:.0f} ms of processor time")


def main() -> None:
    """Measure, or print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0, help="draw and measure scenes for so long")
    parser.add_argument("--sharp", action="store_true", help="only sharp ones: few false positives need many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write a line of JSON for each picture, instead of tables")
    parser.add_argument("--read", type=Path, nargs="*", default=[], help="files of earlier runs")
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--time", action="store_true", help="measure the cost of one picture of 12 megapixels")
    options = parser.parse_args()
    if options.time:
        measure_time()
    rows: list[Row] = [Row(**json.loads(line)) for path in options.read for line in path.read_text().splitlines()]
    measured = measure_scenes(options.seconds, options.seed, spoil=not options.sharp) if options.seconds else iter(())
    if options.out:
        with options.out.open("w") as file:
            for row in measured:
                file.write(json.dumps(asdict(row)) + "\n")
                file.flush()
        return
    rows += measured
    if rows:
        curves = print_tables(rows)
        if options.svg:
            options.svg.write_text(draw_svg(curves["document"]))


if __name__ == "__main__":
    main()
