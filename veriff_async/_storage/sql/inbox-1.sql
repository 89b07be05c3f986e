-- The tables of PostgresInbox, version 1. Ids and keys are bytea in UTF-8: JSON can hold NUL and half a surrogate pair,
-- which a text of PostgreSQL cannot. Times are seconds since 1970.

CREATE TABLE veriff_inbox_session (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,       -- of the id: an index takes entries of 2,700 bytes at most, an id may be longer
    id bytea NOT NULL,                  -- empty: all events that name no session
    state bytea,                        -- NULL before the first event with a state
    status text,                        -- that of the state
    changed xid8,                       -- the transaction that changed the state last
    touched double precision NOT NULL,  -- the last event, or the submission of a session without events
    submission bytea,
    submitted_at double precision,
    events integer NOT NULL             -- how many are stored
);
CREATE INDEX veriff_inbox_session_changed ON veriff_inbox_session (changed);
CREATE INDEX veriff_inbox_session_touched ON veriff_inbox_session (touched, number);

-- One order for events and for their places in the queue.
CREATE SEQUENCE veriff_inbox_number;

CREATE TABLE veriff_inbox_event (
    number bigint PRIMARY KEY DEFAULT nextval('veriff_inbox_number'),
    session bigint NOT NULL REFERENCES veriff_inbox_session ON DELETE CASCADE,
    digest bytea NOT NULL,              -- of the key
    key bytea NOT NULL,
    kind text NOT NULL,
    body bytea NOT NULL,
    recorded_at double precision NOT NULL,
    ignored text,                       -- why it did not count
    token bytea NOT NULL,               -- the call that counted it, for calls whose response was lost
    UNIQUE (session, digest)
);
CREATE INDEX veriff_inbox_event_order ON veriff_inbox_event (session, number);

-- One row for each event that was ever queued for handlers.
CREATE TABLE veriff_inbox_delivery (
    event bigint PRIMARY KEY REFERENCES veriff_inbox_event ON DELETE CASCADE,
    session bigint NOT NULL,
    is_ordered boolean NOT NULL,        -- false: events without a session do not wait for each other
    position bigint NOT NULL,           -- the number of the event, or a later one if it was queued later
    status text NOT NULL CHECK (status IN ('queued', 'leased', 'handled', 'dead')),
    attempts integer NOT NULL DEFAULT 0,
    due_at double precision NOT NULL,   -- when an attempt may begin, or the lease ends
    span double precision NOT NULL,     -- the delay or the lease from which due_at was computed
    lease bytea,                        -- the attempt that holds the lease
    error text,
    handled_by text[] NOT NULL DEFAULT '{}'
);
CREATE INDEX veriff_inbox_delivery_queue ON veriff_inbox_delivery (position)
    WHERE status IN ('queued', 'leased');
CREATE INDEX veriff_inbox_delivery_session ON veriff_inbox_delivery (session, position)
    WHERE status IN ('queued', 'leased');
CREATE INDEX veriff_inbox_delivery_dead ON veriff_inbox_delivery (event) WHERE status = 'dead';
CREATE INDEX veriff_inbox_delivery_dead_session ON veriff_inbox_delivery (session) WHERE status = 'dead';

-- Keyed digests by which sessions of a person are found; the values themselves are in the events alone.
CREATE TABLE veriff_inbox_search_key (
    field text NOT NULL,
    key bytea NOT NULL,
    session bigint NOT NULL REFERENCES veriff_inbox_session ON DELETE CASCADE,
    PRIMARY KEY (field, key, session)
);
CREATE INDEX veriff_inbox_search_key_session ON veriff_inbox_search_key (session);

-- Digests of the ids of erased sessions, whose late events are not stored.
CREATE TABLE veriff_inbox_erased (
    key bytea PRIMARY KEY,
    expires_at double precision NOT NULL
);
CREATE INDEX veriff_inbox_erased_expires ON veriff_inbox_erased (expires_at);
