"""Make `python -m veriff_async` the same as the command `veriff-async`."""

from veriff_async.cli import main

main()
