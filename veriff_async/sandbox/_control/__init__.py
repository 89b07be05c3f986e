"""The control API: everything that a `Sandbox` object can do, as JSON over HTTP under ``/_sandbox/api/``.

An operation is a row of a table: a method, a path, typed fields, a function and the type of its result. HTTP, the
OpenAPI document, the reference and the command line are made from this table, so a new operation is added in one place.

Modules, lower ones first:

    errors      errors as JSON; no request gets another form of error
    access      who may use the console, the control API and the hosted page
    fields      a strict reader of JSON input, and the same types as JSON Schema
    models      the same for models of Veriff
    shapes      the JSON of sessions, webhooks and other records
    stream      the timeline as server-sent events
    operation   the class of a row
    operations  the table, from the modules ``..._operations`` of each topic
    openapi     the OpenAPI document of the table
    api         from a request to an operation and back; imported with the first request
    routes      the aiohttp routes, and the middleware of the access rules
"""
