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

-- Parts of a parent request, each a ticket of its own. One level deep, at most ten: what runs away is stopped here.
ALTER TABLE ticket ADD COLUMN parent bigint REFERENCES ticket;
CREATE INDEX ticket_part_of ON ticket (parent) WHERE parent IS NOT NULL;
CREATE INDEX ticket_awaiting_children ON ticket (number) WHERE outcome = 'awaiting_children' AND state = 'pending';
CREATE TABLE child (
    parent    bigint NOT NULL REFERENCES ticket,
    key       text NOT NULL,
    ticket    bigint NOT NULL UNIQUE REFERENCES ticket,
    runbook   text NOT NULL,      -- its name; the part follows this one and no other
    opened_by text NOT NULL,      -- the parent's runbook with its version
    facts     jsonb NOT NULL,     -- what the parent read in systems of record and the part begins with
    opened_at timestamptz NOT NULL,
    seen      boolean NOT NULL DEFAULT false,  -- its end has woken the parent
    PRIMARY KEY (parent, key),
    CHECK (parent <> ticket)
);
CREATE FUNCTION child_is_bounded() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM child WHERE ticket = NEW.parent) THEN
        RAISE EXCEPTION USING ERRCODE = 'CL001', MESSAGE = format('T-%s is a part itself and has no parts.', NEW.parent);
    END IF;
    IF (SELECT count(*) FROM child WHERE parent = NEW.parent) >= 10 THEN
        RAISE EXCEPTION USING ERRCODE = 'CL001', MESSAGE = format('T-%s has ten parts already.', NEW.parent);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER child_is_bounded BEFORE INSERT ON child FOR EACH ROW EXECUTE FUNCTION child_is_bounded();

-- What lies behind an incident, as far as changes, topology and words show: an explanation with evidence, which acts on nothing.
CREATE TABLE incident_cause (
    incident bigint PRIMARY KEY REFERENCES incident,
    members  int NOT NULL,          -- how many tickets it had when this was found; another number makes it due again
    causes   jsonb NOT NULL,        -- orchestrator.triage.correlate.Cause, the best first
    found_at timestamptz NOT NULL
);
