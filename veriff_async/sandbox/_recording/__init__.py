"""Record the traffic between a client and Veriff in a cassette, and replay it.

    Recorder        a reverse proxy: passes requests on while they arrive, and writes what it saw
      BodyCapture     reads a body that passes by, in constant memory: JSON is kept, pictures become digests
      Redactor        replaces personal data and secrets by stable fakes; `allow_list` says which fields stay
      CassetteFile    writes one line for each exchange
    Replay          a server that responds as a cassette says
      read_cassette   reads and checks the lines
      Library         finds the recording for a request, and the webhooks that are due

Fakes cannot be replaced by the original values. The program that is replayed sends its own values again, and `Library`
learns from its requests which value each fake stands for, so that responses and webhooks contain the program's values.
"""

from veriff_async.sandbox._recording.recorder import Recorder
from veriff_async.sandbox._recording.replay import Replay

__all__ = ("Recorder", "Replay")
