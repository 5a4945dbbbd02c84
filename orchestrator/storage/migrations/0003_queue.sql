-- The queue: one row per ticket. Work is wanted while wanted > done; a wake-up adds one to wanted, also while a worker is at it.

CREATE TABLE job (
    ticket      bigint PRIMARY KEY REFERENCES ticket,
    priority    smallint NOT NULL DEFAULT 3,
    wanted      bigint NOT NULL DEFAULT 1,
    done        bigint NOT NULL DEFAULT 0,
    claimed     bigint NOT NULL DEFAULT 0,       -- what was wanted when the present lease began
    run_at      timestamptz NOT NULL DEFAULT now(),
    token       bigint NOT NULL DEFAULT 0,       -- fencing: grows with every lease and every end of one
    worker      text,
    lease_until timestamptz,
    attempts    int NOT NULL DEFAULT 0,          -- leases since the work was last finished, crashed workers' included
    failures    int NOT NULL DEFAULT 0,          -- reported failures since the work was last finished
    last_error  text,
    dead_at     timestamptz                      -- the dead letter: given up, the ticket is with a person
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX job_wanted ON job (priority, ticket) WHERE wanted > done AND dead_at IS NULL;

CREATE TABLE outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ticket     bigint NOT NULL REFERENCES ticket,
    kind       text NOT NULL CHECK (kind IN ('reply', 'status', 'note', 'one_time_code')),
    payload    jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    due_at     timestamptz NOT NULL,
    attempts   int NOT NULL DEFAULT 0,
    sent_at    timestamptz,
    last_error text
);
CREATE INDEX outbox_waiting ON outbox (due_at, id) WHERE sent_at IS NULL;
CREATE INDEX outbox_of_ticket ON outbox (ticket, id);
