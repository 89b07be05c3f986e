-- Tables of PostgresJournal, version 1. Names of batches and ids of jobs and sessions are bytes in UTF-8, since a text of
-- PostgreSQL cannot hold each character that they may contain; of long ones a digest, which begins with the byte 255.

-- One row for each job. `number` keeps the order in which the jobs were started; `record` is JSON.
CREATE TABLE veriff_journal_records (
    batch bytea NOT NULL,
    job_id bytea NOT NULL,
    number bigint GENERATED ALWAYS AS IDENTITY,
    state text NOT NULL,
    creations integer NOT NULL,
    session_id bytea,
    record bytea NOT NULL,
    PRIMARY KEY (batch, job_id)
);

CREATE INDEX veriff_journal_records_by_number ON veriff_journal_records (batch, number);
CREATE INDEX veriff_journal_records_by_state ON veriff_journal_records (batch, state, number);
CREATE INDEX veriff_journal_records_by_session ON veriff_journal_records (batch, session_id)
    WHERE session_id IS NOT NULL;

-- One row for each job that a process has claimed. The process extends `expires_at` while it lives.
CREATE TABLE veriff_journal_claims (
    batch bytea NOT NULL,
    job_id bytea NOT NULL,
    token bytea NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (batch, job_id)
);

-- One row for each batch: how many sessions it created, or may have created. Its lock makes limits exact.
CREATE TABLE veriff_journal_batches (
    batch bytea PRIMARY KEY,
    sessions bigint NOT NULL
);

-- The creations of the last hour, by the clock of the server; older ones are deleted by the next one.
CREATE TABLE veriff_journal_creations (
    batch bytea NOT NULL,
    job_id bytea NOT NULL,
    number integer NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (batch, job_id, number)
);

CREATE INDEX veriff_journal_creations_by_time ON veriff_journal_creations (batch, created_at);
