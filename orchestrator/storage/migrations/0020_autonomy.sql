-- The autonomy ladder: where each ticket type stands, what people found in the sample, chaos days. Switches of single types are
-- rows of `switch` named 'type:<name>'.

CREATE TABLE autonomy (
    type   text PRIMARY KEY,
    rung   text NOT NULL CHECK (rung IN ('shadow', 'suggest', 'approve', 'notify', 'full')),
    since  timestamptz NOT NULL,
    by     text NOT NULL,
    reason text NOT NULL
);

CREATE TABLE autonomy_move (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    type     text NOT NULL,
    start    text NOT NULL,
    target   text NOT NULL,
    at       timestamptz NOT NULL,
    by       text NOT NULL,     -- 'cloister' where the evidence moved it by itself
    reason   text NOT NULL,
    evidence jsonb NOT NULL
);
CREATE INDEX autonomy_move_of_type ON autonomy_move (type, id);

CREATE TABLE qa_finding (  -- what a person found in a ticket that was resolved without one
    ticket  bigint PRIMARY KEY REFERENCES ticket,
    finding text NOT NULL CHECK (finding IN ('right', 'wrong', 'harmful')),
    reason  text NOT NULL,
    by      text NOT NULL,
    at      timestamptz NOT NULL
);

CREATE SEQUENCE chaos_number START 1;
CREATE TABLE chaos_day (
    number            bigint PRIMARY KEY DEFAULT nextval('chaos_number'),
    id                text NOT NULL GENERATED ALWAYS AS ('C-' || number) STORED,
    type              text NOT NULL,
    starts_at         timestamptz NOT NULL,
    ends_at           timestamptz NOT NULL CHECK (ends_at > starts_at),
    by                text NOT NULL,
    reason            text NOT NULL,
    cancelled_at      timestamptz,
    cancelled_because text NOT NULL DEFAULT ''
);
CREATE INDEX chaos_day_by_time ON chaos_day (ends_at) WHERE cancelled_at IS NULL;
CREATE INDEX outcome_by_time ON outcome (at);
