"""How to fix an endpoint, in general and in common frameworks."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ("Fix",)


@frozen
class Fix:
    """A remedy.

    Attributes:
        name: Its name: several cases may have the same remedy.
        text: The remedy, in any language.
        frameworks: How to do it in a framework, by the framework's name.
    """

    name: str
    text: str
    frameworks: Mapping[str, str] = MappingProxyType({})


RAW_BODY: Final = Fix(
    "raw-body",
    "Read the raw bytes of the body, compute the HMAC over these bytes, and parse JSON only afterwards. Never compute "
    "it over JSON that was parsed and written again.",
    MappingProxyType(
        {
            "Express": "app.post(path, express.raw({type: '*/*'}), handler): req.body is the raw Buffer. "
            "Register it before app.use(express.json()).",
            "Node.js": "collect the chunks of req and use Buffer.concat(chunks).",
            "Django": "request.body, before request.POST or a parser of REST framework reads it.",
            "Flask": "request.get_data(), before request.get_json().",
            "FastAPI": "await request.body(), without a model as parameter of the function.",
            "aiohttp": "await request.read(), before await request.json().",
            "Spring": "a parameter @RequestBody byte[] body, and ObjectMapper.readTree(body) afterwards.",
            "Laravel": "$request->getContent(), not $request->all() or json_encode.",
            "Rails": "request.raw_post, not params.",
            "Go": "body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20)), then json.Unmarshal.",
            "ASP.NET": "Request.EnableBuffering(), and read Request.Body into a byte[] before model binding.",
        }
    ),
)
SIGNATURE: Final = Fix(
    "signature",
    "Compute the HMAC-SHA256 of the raw body with the shared secret as text, write it as lower-case hex, and compare "
    "it with the whole header x-hmac-signature in constant time. Answer 401 if it is missing, malformed or different, "
    "before anything else happens.",
    MappingProxyType(
        {
            "Express": "crypto.createHmac('sha256', secret).update(req.body).digest('hex'); compare lengths, then "
            "crypto.timingSafeEqual, which throws for different lengths.",
            "Python": "hmac.compare_digest(hmac.new(secret.encode(), body, 'sha256').hexdigest().encode(), "
            "signature.lower().encode()); or veriff_async.parse_webhook(headers, body, credentials).",
            "Spring": 'Mac.getInstance("HmacSHA256"), then MessageDigest.isEqual.',
            "Laravel": "hash_equals(hash_hmac('sha256', $body, $secret), strtolower($signature)).",
            "Rails": "OpenSSL::HMAC.hexdigest('SHA256', secret, body), then "
            "ActiveSupport::SecurityUtils.secure_compare.",
            "Go": "hmac.New(sha256.New, []byte(secret)), then hmac.Equal.",
            "ASP.NET": "HMACSHA256.HashData, then CryptographicOperations.FixedTimeEquals.",
        }
    ),
)
SECRET: Final = Fix(
    "secret",
    "Stop the program at its start when the shared secret is missing or empty, and never take the API key for it: the "
    "API key travels in a header and is public.",
)
KEY_RING: Final = Fix(
    "key-ring",
    "Verify with each live secret of the integration and accept if one of them matches, so that a secret can be "
    "replaced without losing webhooks.",
)
API_KEY: Final = Fix(
    "api-key", "Compare the header x-auth-client with the API key of your integration, and answer 401 if it differs."
)
HEADERS: Final = Fix(
    "headers",
    "Read x-hmac-signature and x-auth-client, or else vrf-hmac-signature and vrf-auth-client. Compare names of headers "
    "without case, and refuse a request whose two families contradict each other.",
)
ANSWER_200: Final = Fix(
    "answer-200",
    "Answer 200 to every webhook with a correct signature: also to kinds and members that you do not know, and to "
    "repetitions. Store the event first, then answer, and do the work afterwards.",
    MappingProxyType(
        {
            "Express": "res.sendStatus(200), and no strict schema: zod needs .passthrough(), ajv no "
            "additionalProperties: false.",
            "Django": "HttpResponse(status=200), with @csrf_exempt.",
            "Flask": "return '', 200.",
            "FastAPI": "Response(status_code=200); in pydantic, no extra='forbid'; enums of statuses as str.",
            "Spring": "ResponseEntity.ok().build(), with FAIL_ON_UNKNOWN_PROPERTIES off.",
            "Laravel": "response()->noContent(200), with the route outside of the CSRF middleware.",
            "Go": "w.WriteHeader(http.StatusOK), without DisallowUnknownFields.",
        }
    ),
)
REFUSE_UNREADABLE: Final = Fix(
    "refuse-unreadable",
    "Answer 400 to a body that is not a JSON object in UTF-8, and catch the errors of the parser, depth included.",
)
LIMIT_BODY: Final = Fix(
    "limit-body",
    "Limit the body to about 1 MiB before it is read, and answer 413. Refuse compressed bodies with 415 instead of "
    "unpacking them.",
    MappingProxyType(
        {
            "Express": "express.raw({type: '*/*', limit: '1mb', inflate: false}); the default is 100 kB.",
            "Django": "DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576.",
            "Flask": "MAX_CONTENT_LENGTH = 1_048_576.",
            "FastAPI": "count the chunks of request.stream().",
            "nginx": "client_max_body_size 1m; gunzip off.",
            "Go": "http.MaxBytesReader(w, r.Body, 1<<20).",
        }
    ),
)
HTTP_RULES: Final = Fix(
    "http-rules",
    "Answer 405 to methods other than POST and 415 to other content types, accept a charset parameter, and read each "
    "body to its end or close the connection.",
)
NO_REDIRECT: Final = Fix(
    "no-redirect", "Enter the final URL in the Customer Portal: https, the right host, with or without the last slash."
)
FAST_ANSWER: Final = Fix(
    "fast-answer",
    "Verify, store and answer; do everything else in a background task or queue that survives a crash. If connections"
    " were refused or closed, let more of them wait for the server (the backlog of its listening socket).",
)
TIME_LIMITS: Final = Fix(
    "time-limits",
    "Give the reading of a body a time limit of a few seconds, in the server or in the proxy in front of it.",
    MappingProxyType(
        {
            "nginx": "client_body_timeout 5s.",
            "Node.js": "server.requestTimeout = 10_000.",
            "gunicorn": "an asynchronous or threaded worker, behind nginx.",
            "Go": "http.Server{ReadTimeout: 10 * time.Second}.",
        }
    ),
)
CERTIFICATE: Final = Fix(
    "certificate",
    "Serve https on port 443 under a host name, with a certificate of a public authority and the whole chain.",
)
QUIET_RESPONSES: Final = Fix(
    "quiet-responses",
    "Answer refusals with a status and a fixed sentence: no computed signature, no secret, no stack trace. Switch off "
    "the debug mode of the framework.",
)
ONCE: Final = Fix(
    "once",
    "Store a key of each event under a unique constraint, in the transaction that has the effect, and do nothing when "
    "it exists already. For a decision: session id, attempt id, status and decision time, not a hash of the body.",
)
IN_ORDER: Final = Fix(
    "in-order",
    "Compare an event with the state that you have stored: a final decision is not replaced by an earlier step or by "
    "an older decision. Compare decisionTime; do not rely on the order of arrival.",
)
DURABLE: Final = Fix(
    "durable",
    "Answer 200 only when the event is stored. Either do the work before the answer, and answer 500 when it fails, so "
    "that Veriff sends the webhook again; or store the event, answer 200, and repeat the work yourself until it is "
    "done.",
)
