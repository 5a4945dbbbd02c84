-- One contract for every act: what its target looked like before and after, whether its probe confirmed it, what it undoes.
ALTER TABLE step
    ADD COLUMN target       text,                     -- the read that shows it, with its arguments: two acts on one thing have one target
    ADD COLUMN before       jsonb,                    -- orchestrator.domain.resolution.Snapshot, taken just before
    ADD COLUMN after        jsonb,                    -- and after the answer
    ADD COLUMN verification jsonb,                    -- orchestrator.domain.resolution.Verification by the action's own probe
    ADD COLUMN undoes       text,                     -- idempotency key of the act that this one compensates
    ADD COLUMN unknowns     int NOT NULL DEFAULT 0;   -- runs after which nobody could say whether it happened
CREATE INDEX step_on_target ON step (target, intended_at) WHERE target IS NOT NULL;
CREATE INDEX step_of_action ON step (action, intended_at) WHERE writes;

-- The circuit breaker: what is frozen until a lead gives it free.
CREATE TABLE breaker (
    action    text NOT NULL,
    target    text NOT NULL,
    kind      text NOT NULL CHECK (kind IN ('repeats', 'oscillation')),
    reason    text NOT NULL,
    ticket    bigint NOT NULL REFERENCES ticket,      -- whose act was refused first
    frozen_at timestamptz NOT NULL,
    PRIMARY KEY (action, target)
);
