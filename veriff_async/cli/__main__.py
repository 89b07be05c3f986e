"""Make `python -m veriff_async.cli` the same as `veriff-async`."""

from veriff_async.cli import main

main()
