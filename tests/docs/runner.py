"""Runs examples, each in a forked process of its own; each line of standard input is an example as JSON.

Only packages of others are imported before the fork: they take most of the time of a start, and an example that forgets
to import a part of this package still fails. Each example ends as a program does, so warnings at the end are seen.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import warnings

SECONDS = 50
PREPARED = ("aiohttp.web", "anyio", "attrs", "cattrs", "orjson", "pybase64", "PIL.Image", "sqlite3")


def main() -> None:
    """Run the examples one after the other, and print the exit code of each."""
    for name in PREPARED:
        __import__(name)
    for line in sys.stdin:
        process = os.fork()
        if not process:
            run(**json.loads(line))
            return
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201  its answer


def run(folder: str, environ: dict[str, str], warning: str) -> None:
    """Run `example.py` in a folder as `python -W error example.py` would, with its errors in the file `errors`."""
    signal.alarm(SECONDS)
    os.chdir(folder)
    written = os.O_WRONLY | os.O_CREAT
    for standard, opened in enumerate(
        (os.open(os.devnull, os.O_RDONLY), os.open("output", written), os.open("errors", written))
    ):
        os.dup2(opened, standard)
        os.close(opened)
    os.environ.update(environ)
    sys.argv = ["example.py"]
    sys.path[0] = folder
    warnings.resetwarnings()
    warnings.simplefilter("error" if warning == "error" else "ignore")
    runpy.run_path("example.py", run_name="__main__")


if __name__ == "__main__":
    main()
