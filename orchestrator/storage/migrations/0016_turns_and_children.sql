-- What a runbook's loop decided, turn by turn: written before the turn is taken, read by a run that resumes.
CREATE TABLE turn (
    ticket     bigint NOT NULL REFERENCES ticket,
    epoch      int NOT NULL,       -- the ticket's reopened_count
    runbook    text NOT NULL,      -- with its version: another version is another loop
    number     int NOT NULL CHECK (number BETWEEN 1 AND 12),
    body       jsonb NOT NULL,     -- orchestrator.domain.resolution.Turn
    decided_at timestamptz NOT NULL,
    PRIMARY KEY (ticket, epoch, runbook, number)
);
