"""The chaos profiles that the library includes, as the TOML documents that a user would write.

They are not files, because `ChaosProfile.load` also runs inside of event loops, where reading a file blocks.
"""

from typing import Final

__all__ = ("SHIPPED",)

SHIPPED: Final = {
    "perfect": """\
# Every request succeeds immediately, and every webhook is posted once and in order.
#
# Set it to return to normal while a sandbox runs, or copy it as the start of a profile of your own. The schema is in
# the page "Inject faults" of the documentation.

name = "perfect"
description = "Nothing fails, and nothing is late."
seed = 1
""",
    "mobile": """\
# A phone on a train: slow responses with a long tail, and connections that break, most often during uploads.
#
# The numbers are an assumption for tests; they were not measured. A client completes each flow if it repeats what is
# safe to repeat: only the uploads fail often.

name = "mobile"
description = "Slow responses, and connections that break during uploads."
seed = 4

# Uploads are large, so a connection breaks more often while one is sent. The first rule that matches a request
# applies, so this one stands above the general one.
[[requests]]
method = "POST"
path = "/v1/sessions/*/media"
latency = { distribution = "lognormal", median = 0.4, sigma = 0.6, highest = 4 }

[[requests.faults]]
kind = "drop" # the connection breaks after 20,000 bytes of the picture
weight = 0.1
after = 20_000

[[requests.faults]]
kind = "lose_response" # the picture has arrived, and the client cannot know it
weight = 0.04

# A creation whose response is lost leaves the client in doubt, because a repetition would create a second session.
# Phones lose such responses, too: add a fault of the kind lose_response here to test how your program resolves it.
[[requests]]
method = "POST"
path = "/v1/sessions"
latency = { distribution = "lognormal", median = 0.2, sigma = 0.5, highest = 3 }

# All other requests.
[[requests]]
latency = { distribution = "lognormal", median = 0.15, sigma = 0.5, highest = 3 }

[[requests.faults]]
kind = "drop"
weight = 0.03

[[requests.faults]]
kind = "truncate_response" # the connection breaks within the response
weight = 0.02
after = 10

# A webhook travels between servers, not to the phone. The decision is posted normally.
""",
    "outage": """\
# The service fails for 10 of every 60 seconds, for the first time 5 seconds after the start.
#
# The windows follow the clock of the sandbox: with a VirtualClock, `sandbox.advance(5)` enters the first one. The
# duration is short, so that a test can wait for the end; set it to minutes to see what a program does after it has
# given up.

name = "outage"
description = "All requests fail for 10 of every 60 seconds."
seed = 2

# Requests get a 503, as from a load balancer without a server behind it. Webhooks wait until the end of the window,
# and then come all at once.
[[outages]]
start = 5
duration = 10
every = 60
fault = { kind = "status", status = 503, retry_after = 2, message = "Service unavailable" }
webhooks = true

# In the seconds after an outage, real services are slow. Rules for requests have no windows, so all responses are
# somewhat slow here.
[[requests]]
latency = { distribution = "uniform", lowest = 0.01, highest = 0.1 }
""",
    "rate-limited": """\
# More requests than the limit get a 429 with Retry-After.
#
# Veriff documents limits for two endpoints only, so these numbers are an assumption. The limits follow the clock of
# the sandbox: with a VirtualClock, time has to be advanced before the next requests pass.

name = "rate-limited"
description = "Requests above a rate get a 429 with Retry-After."
seed = 3

# Creations have the lower limit, as the most expensive request.
[[requests]]
method = "POST"
path = "/v1/sessions"
requests_per_second = 5
retry_after = 1

# Questions about decisions: a program that polls many sessions exceeds this first.
[[requests]]
method = "GET"
requests_per_second = 20
retry_after = 1

# Uploads and the rest.
[[requests]]
requests_per_second = 20
retry_after = 1
""",
    "hostile-webhooks": """\
# The API works, and webhooks get lost, come twice, late and in another order.
#
# A receiver passes with this profile if it ignores copies, never goes back to an older state, and asks the API for
# what it has missed. Veriff documents that it repeats webhooks and that their order is not fixed; the shares here are
# far above what real services show.

name = "hostile-webhooks"
description = "Webhooks get lost, come twice, late and in another order."
seed = 5

# Decisions: one of five is never posted, so the program has to poll.
[[webhooks]]
kind = "decision"
loss = 0.2
duplication = 0.4
copies = 2
delay = { distribution = "lognormal", median = 0.2, sigma = 1, highest = 3 }
reordering = 0.3
reorder_seconds = 2

# "started" and "submitted": these often arrive after the decision.
[[webhooks]]
kind = "event"
loss = 0.1
duplication = 0.3
delay = { distribution = "uniform", lowest = 0, highest = 1 }
reordering = 0.5
reorder_seconds = 3

# All other kinds.
[[webhooks]]
loss = 0.1
duplication = 0.2
delay = { distribution = "uniform", lowest = 0, highest = 1 }
""",
}
