"""The house stands: imports go downwards, pure rooms stay pure, rooms stay small."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import veriff_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOUSE: Final = Path(veriff_async.__file__).parent
FLOORS: Final = {
    "version": 0,
    "late": 0,
    "errors": 0,
    "models": 0,
    "protocol": 1,
    "event_loop": 1,
    "transport": 2,
    "redis_server": 2,
    "sqlite_file": 2,
    "inbox": 2,
    "api": 3,
    "uploading": 3,
    "listening": 3,
    "lone": 3,
    "polling": 3,
    "preparing": 3,
    "reconciling": 3,
    "remembering": 3,
    "waiting": 3,
    "watched": 3,
    "together": 3,
    "downloading": 3,
    "readings": 3,
    "services": 3,
    "signals": 3,
    "session": 3,
    "client": 3,
    "webhooks": 3,
    "sandbox": 4,
    "batch": 4,
    "testing": 5,
    "pytest_plugin": 5,
    "cli": 5,
    "__init__": 6,
    "__main__": 6,
}
# Where a room on the same floor may be entered, and from which.
DOORS: Final = {
    "errors": {"models"},
    "inbox": {"redis_server", "sqlite_file"},
    "preparing": {"together"},
    "uploading": {"api", "preparing", "together"},
    "downloading": {"api", "together"},
    "readings": {"api"},
    "services": {"api", "downloading"},
    "session": {"api", "downloading", "readings", "uploading", "waiting"},
    "client": {"api", "downloading", "remembering", "services", "session", "uploading", "waiting"},
    "listening": {"lone", "watched"},
    "polling": {"lone", "watched"},
    "reconciling": {"client", "listening"},
    "signals": {"client"},
    "waiting": {"listening", "polling", "remembering", "watched"},
}
IMPURE: Final = frozenset(
    {
        "asyncio",
        "aiohttp",
        "anyio",
        "socket",
        "ssl",
        "threading",
        "time",
        "random",
        "secrets",
        "os",
        "pathlib",
        "tempfile",
    }
    | {"io", "subprocess", "shutil", "logging", "select"}
)
# Pure rooms: what has rules and nothing that waits, reads a clock, or touches the machine.
PURE: Final = ("models", "protocol", "sandbox/intake", "sandbox/scenario", "sandbox/checks", "sandbox/payloads")
PURE_TOO: Final = (
    "sandbox/arguments",
    "sandbox/gate",
    "sandbox/refusal",
    "sandbox/rules",
    "sandbox/faults",
    "sandbox/turnstile",
)
# A type of path, the environment as an argument's default: named, so that nothing else slips in.
ALLOWED_IMPURITIES: Final = {
    ("protocol/credentials", "os"),
    ("models/media", "os"),
    ("models/media", "pathlib"),
    ("protocol/codec", "io"),
}
HEAVY: Final = {
    "cattrs": {"protocol/codec"},
    "redis": {"redis_server", "inbox/redis", "batch/redis"},
    "taskiq": {"batch/taskiq"},
    "hypothesis": {"testing/strategies"},
    "PIL": {"cli/specimens/draw", "transport/scaling"},
}
AIOHTTP: Final = ("transport/", "sandbox/", "webhooks/", "pytest_plugin", "client", "cli/posting", "cli/serving")
MAX_MODULE: Final = 600
MAX_FUNCTION: Final = 40

MODULES: Final = sorted(HOUSE.rglob("*.py"))


def each_module(check: Callable[[Path], None]) -> Callable[[], None]:
    """Make one test of a check, for all modules: an item for each would cost far more than the check itself."""

    def test() -> None:
        for module in MODULES:
            check(module)

    test.__doc__ = check.__doc__
    return test


def name_of(module: Path) -> str:
    """Return ``protocol/codec`` for a module, and ``protocol`` for a package."""
    return module.relative_to(HOUSE).with_suffix("").as_posix().removesuffix("/__init__")


@cache
def tree_of(module: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(module.read_text(encoding="utf-8"))


def imports_of(module: Path) -> Iterator[tuple[str, ast.AST]]:
    """Yield every import, wherever it stands: at the top, under TYPE_CHECKING, in a function."""
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert 0 == node.level, "imports name the whole path"
            base = node.module or ""
            for alias in node.names:
                deeper = HOUSE.parent.joinpath(*base.split("."), alias.name)
                whole = f"{base}.{alias.name}"
                yield (whole if deeper.with_suffix(".py").exists() or deeper.is_dir() else base), node


def rooms_of(module: Path) -> set[str]:
    """Return the modules of the house that a module imports."""
    own = {name for name, _ in imports_of(module) if name.split(".")[0] == "veriff_async" and name != "veriff_async"}
    return {name.removeprefix("veriff_async.").replace(".", "/") for name in own}


def test_every_room_has_a_floor() -> None:
    """A new module or package is given its place when it is made."""
    assert set() == {name_of(module).split("/")[0] for module in MODULES} - set(FLOORS)


@each_module
def test_imports_go_downwards(module: Path) -> None:
    """No room imports from a floor above, and on its own floor only through a door of the table."""
    here = name_of(module).split("/")[0]
    for room in rooms_of(module):
        there = room.split("/")[0]
        below = FLOORS[there] < FLOORS[here]
        assert below or there == here or there in DOORS.get(here, set()), f"{here} imports {room}"


def test_no_circle_of_imports() -> None:
    """Every module can be read after those that it imports, types included, but for errors that carry a model."""
    rooms = {name_of(module): rooms_of(module) for module in MODULES}
    done: set[str] = set()
    while ready := {name for name, needs in rooms.items() if name not in done and needs & set(rooms) <= done | {name}}:
        done |= ready
    assert set() == set(rooms) - done


@each_module
def test_pure_rooms_stay_pure(module: Path) -> None:
    """What has rules imports nothing that waits, tells the time, throws dice or touches the machine."""
    name = name_of(module)
    if not any(name == room or name.startswith(f"{room}/") for room in (*PURE, *PURE_TOO)):
        return
    impure = {imported.split(".")[0] for imported, _ in imports_of(module)} & IMPURE
    assert set() == {(name, found) for found in impure} - ALLOWED_IMPURITIES
    calls = {node.attr for node in ast.walk(tree_of(module)) if isinstance(node, ast.Attribute)}
    assert set() == calls & {"now", "utcnow", "today"}, name


@each_module
def test_heavy_packages_have_one_door(module: Path) -> None:
    """cattrs, redis, taskiq and Pillow are each known to few modules, and aiohttp to the rooms at the edge."""
    name = name_of(module)
    roots = {imported.split(".")[0] for imported, _ in imports_of(module)}
    for package, doors in HEAVY.items():
        assert package not in roots or name in doors or name.startswith("cli/specimens"), f"{name} imports {package}"
    assert "aiohttp" not in roots or name.startswith(AIOHTTP), f"{name} imports aiohttp"


@each_module
def test_rooms_stay_small(module: Path) -> None:
    """A module has at most 600 lines, a function 40, its docstring aside."""
    assert MAX_MODULE >= len(module.read_text(encoding="utf-8").splitlines()), name_of(module)
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            has_words = ast.get_docstring(node) is not None
            body = node.body[1:] if has_words else node.body
            lines = 0 if not body else (body[-1].end_lineno or 0) - body[0].lineno + 1
            assert MAX_FUNCTION >= lines, f"{name_of(module)}: {node.name} has {lines} lines"


@each_module
def test_the_lower_floors_ignore_no_type(module: Path) -> None:
    """On floors 0 and 1 nothing is hidden from the type checkers."""
    if FLOORS[name_of(module).split("/")[0]] <= 1:
        assert "type: ignore" not in module.read_text(encoding="utf-8"), name_of(module)


def test_every_module_imports_without_a_warning() -> None:
    """No module warns when it is imported, whichever comes first."""
    names = [
        name_of(module)
        for module in MODULES
        if not name_of(module).startswith(("cli/specimens/", "cli/__main__", "__main__"))
    ]
    dotted = ["veriff_async" if name == "__init__" else f"veriff_async.{name.replace('/', '.')}" for name in names]
    python("; ".join(f"import {name}" for name in reversed(dotted)))


def test_importing_the_package_brings_nothing_along() -> None:
    """The bare package costs next to nothing, and its client none of the rooms above or of the extras."""
    python(
        "import sys, veriff_async\n"
        "assert not {'aiohttp', 'anyio', 'attrs', 'cattrs'} & set(sys.modules)\n"
        "from veriff_async import VeriffClient\n"
        "rooms = 'sandbox', 'inbox', 'webhooks', 'batch', 'cli', 'pytest_plugin'\n"
        "rooms = {f'veriff_async.{room}' for room in rooms}\n"
        "extras = {'click', 'rich', 'redis', 'taskiq', 'PIL', 'pytest'}\n"
        "assert not (rooms | extras) & set(sys.modules)\n"
        "from veriff_async import *\n"
        "assert not (rooms - {'veriff_async.webhooks', 'veriff_async.inbox'} | extras) & set(sys.modules)\n"
    )


def python(code: str) -> None:
    """Run code in an interpreter of its own, with warnings as errors."""
    done = subprocess.run(  # noqa: S603  our own code
        [sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True
    )
    assert (0, "") == (done.returncode, done.stderr)
