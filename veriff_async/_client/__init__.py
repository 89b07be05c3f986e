"""The parts of a client and its views: options, what makes their calls, counters, and the flows of several calls."""
