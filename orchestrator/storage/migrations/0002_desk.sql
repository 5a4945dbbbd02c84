-- Tickets and what the desk says about them. The database refuses an illegal state transition and writes the event of a legal one.

CREATE TABLE transition (
    from_state text NOT NULL,
    to_state   text NOT NULL,
    PRIMARY KEY (from_state, to_state)
);
INSERT INTO transition VALUES  -- the same table as orchestrator.domain.tickets.TRANSITIONS; a test compares the two
    ('active', 'pending'), ('active', 'escalated'), ('active', 'resolved'),
    ('pending', 'active'), ('pending', 'escalated'), ('pending', 'resolved'),
    ('escalated', 'active'), ('escalated', 'pending'), ('escalated', 'resolved'),
    ('resolved', 'active'), ('resolved', 'closed'),
    ('closed', 'active');

CREATE SEQUENCE ticket_number START 1001;
CREATE TABLE ticket (
    number           bigint PRIMARY KEY DEFAULT nextval('ticket_number'),
    id               text NOT NULL GENERATED ALWAYS AS ('T-' || number) STORED,
    source           text NOT NULL,
    external_id      text,
    subject          text NOT NULL,
    description      text NOT NULL,
    requester        jsonb NOT NULL,          -- {email, name, account, assurance}
    requester_email  text NOT NULL,           -- lower case, for looking up earlier contacts
    channel          text NOT NULL,
    context          jsonb NOT NULL DEFAULT '{}',
    state            text NOT NULL DEFAULT 'active',
    state_reason     text NOT NULL DEFAULT '',
    state_by         text NOT NULL DEFAULT 'cloister',
    stage            text NOT NULL DEFAULT 'accepted' CHECK (stage IN ('accepted', 'triaged', 'finished')),
    created_at       timestamptz NOT NULL,    -- when the requester wrote it
    received_at      timestamptz NOT NULL,    -- when we got it
    updated_at       timestamptz NOT NULL,
    resolved_at      timestamptz,
    reopened_count   int NOT NULL DEFAULT 0,
    autonomy_rung    text,
    category         text,                    -- from here: the triage as it stands now, a person's override included
    confidence       float8,
    abstained        boolean,
    priority         smallint,
    assignment_group text,
    assignee         text,
    outcome          text,                    -- the last one: resolved, linked, awaiting_approval, awaiting_requester, handed_over
    linked_to        bigint REFERENCES ticket -- the ticket that this one waits for
);
CREATE UNIQUE INDEX ticket_came_once ON ticket (source, external_id);  -- a missing external_id is never the same as another
CREATE INDEX ticket_by_state ON ticket (state, number);
CREATE INDEX ticket_by_requester ON ticket (requester_email, created_at);
CREATE INDEX ticket_open_of_assignee ON ticket (assignee) WHERE assignee IS NOT NULL AND state IN ('active', 'pending', 'escalated');
CREATE INDEX ticket_waiting_for ON ticket (linked_to) WHERE linked_to IS NOT NULL;

CREATE FUNCTION ticket_opened() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    SELECT id, state INTO wrong FROM new_rows WHERE state <> 'active' LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'CL001', MESSAGE = format('%s cannot begin as %s.', wrong.id, wrong.state), HINT = 'A ticket begins active.';
    END IF;
    PERFORM audit_append(
        array_agg(id ORDER BY number), array_agg('opened'::text ORDER BY number), array_agg(state_by ORDER BY number),
        array_agg(jsonb_build_object('source', source, 'external_id', external_id, 'channel', channel, 'requester', requester,
            'subject', subject, 'text_sha256', encode(sha256(convert_to(subject || E'\n' || description, 'UTF8')), 'hex'))::text ORDER BY number))
    FROM new_rows HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER ticket_opened AFTER INSERT ON ticket REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION ticket_opened();

CREATE FUNCTION ticket_moved() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    IF (SELECT count(*) FROM new_rows) <> (SELECT count(*) FROM new_rows JOIN old_rows USING (number)) THEN
        RAISE EXCEPTION USING ERRCODE = 'CL001', MESSAGE = 'The number of a ticket never changes.';
    END IF;
    SELECT n.id, o.state AS was, n.state AS becomes INTO wrong
    FROM new_rows n JOIN old_rows o USING (number) LEFT JOIN transition t ON t.from_state = o.state AND t.to_state = n.state
    WHERE o.state <> n.state AND t.from_state IS NULL LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'CL001', MESSAGE = format('%s is %s and cannot become %s.', wrong.id, wrong.was, wrong.becomes),
            HINT = 'The table "transition" holds what is allowed.';
    END IF;
    PERFORM audit_append(
        array_agg(n.id ORDER BY n.number), array_agg('state'::text ORDER BY n.number), array_agg(n.state_by ORDER BY n.number),
        array_agg(jsonb_build_object('from', o.state, 'to', n.state, 'reason', n.state_reason)::text ORDER BY n.number))
    FROM new_rows n JOIN old_rows o USING (number) WHERE o.state <> n.state HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER ticket_moved AFTER UPDATE ON ticket REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION ticket_moved();

CREATE TABLE message (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ticket bigint NOT NULL REFERENCES ticket,
    author text NOT NULL CHECK (author IN ('requester', 'desk', 'note')),
    body   text NOT NULL,
    at     timestamptz NOT NULL,
    by     text NOT NULL
);
CREATE INDEX message_of_ticket ON message (ticket, id);

CREATE TABLE triage (
    ticket     bigint PRIMARY KEY REFERENCES ticket,
    body       jsonb NOT NULL,  -- orchestrator.domain.triage.Triage
    triaged_at timestamptz NOT NULL
);

CREATE TABLE outcome (  -- the last one of each ticket; the earlier ones are events
    ticket   bigint PRIMARY KEY REFERENCES ticket,
    kind     text NOT NULL,
    body     jsonb NOT NULL,            -- the record of that kind in orchestrator.domain.resolution
    notes    jsonb NOT NULL,            -- what the pipeline adds: runbook, explanation, ...
    runbook  text,
    eligible boolean NOT NULL,          -- the ticket's type has a runbook that acts
    at       timestamptz NOT NULL
);

CREATE TABLE feedback (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ticket bigint NOT NULL REFERENCES ticket,
    kind   text NOT NULL,
    body   jsonb NOT NULL,
    by     text NOT NULL,
    at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX feedback_of_ticket ON feedback (ticket, id);

-- Vectors are of unit length, so the inner product is the cosine. created_at is the ticket's, beside the vector for a cheap window scan.
CREATE TABLE embedding (
    ticket     bigint NOT NULL REFERENCES ticket,
    model      text NOT NULL,
    created_at timestamptz NOT NULL,
    vector     vector NOT NULL,
    entities   jsonb NOT NULL,
    PRIMARY KEY (ticket, model)
);
ALTER TABLE embedding ALTER vector SET STORAGE MAIN;  -- in the row: a scan need not fetch each vector from elsewhere
CREATE INDEX embedding_in_window ON embedding (model, created_at, ticket);

CREATE SEQUENCE incident_number START 101;
CREATE TABLE incident (
    number    bigint PRIMARY KEY DEFAULT nextval('incident_number'),
    id        text NOT NULL GENERATED ALWAYS AS ('INC-' || number) STORED,
    title     text NOT NULL,
    lead      bigint NOT NULL REFERENCES ticket,  -- goes through its own runbook; the others wait for it
    opened_at timestamptz NOT NULL
);
CREATE INDEX incident_led_by ON incident (lead);
CREATE TABLE incident_member (  -- a link, not a merge: leaving is recorded and can be seen afterwards
    incident    bigint NOT NULL REFERENCES incident,
    ticket      bigint NOT NULL REFERENCES ticket,
    joined_at   timestamptz NOT NULL,
    left_at     timestamptz,
    left_reason text,
    left_by     text,
    PRIMARY KEY (incident, ticket)
);
CREATE UNIQUE INDEX incident_member_of_one ON incident_member (ticket) WHERE left_at IS NULL;
CREATE INDEX incident_member_who_left ON incident_member (ticket) WHERE left_at IS NOT NULL;

-- Put `member` into the incident of `other`, opening one led by `other` if it is in none; gives the incident's number.
CREATE FUNCTION incident_join(member bigint, other bigint, its_title text, moment timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    which bigint;
BEGIN
    SELECT incident INTO which FROM incident_member WHERE ticket = member AND left_at IS NULL;
    IF FOUND THEN
        RETURN which;
    END IF;
    SELECT incident INTO which FROM incident_member WHERE ticket = other AND left_at IS NULL;
    IF NOT FOUND THEN
        INSERT INTO incident (title, lead, opened_at) VALUES (its_title, other, moment) RETURNING number INTO which;
        INSERT INTO incident_member (incident, ticket, joined_at) VALUES (which, other, moment);
        PERFORM audit_append(ARRAY['T-' || other], ARRAY['incident_opened'], ARRAY['cloister'],
            ARRAY[jsonb_build_object('incident', 'INC-' || which, 'title', its_title, 'lead', 'T-' || other)::text]);
    END IF;
    INSERT INTO incident_member (incident, ticket, joined_at) VALUES (which, member, moment)
    ON CONFLICT (incident, ticket) DO UPDATE SET joined_at = moment, left_at = NULL, left_reason = NULL, left_by = NULL;
    PERFORM audit_append(ARRAY['T-' || member], ARRAY['incident_joined'], ARRAY['cloister'],
        ARRAY[jsonb_build_object('incident', 'INC-' || which, 'with', 'T-' || other)::text]);
    RETURN which;
END $$;

CREATE TABLE step (
    ticket          bigint NOT NULL REFERENCES ticket,
    seq             int NOT NULL,
    epoch           int NOT NULL,      -- the ticket's reopened_count when the step was taken
    runbook         text NOT NULL,
    step            text NOT NULL,
    action          text NOT NULL,
    arguments       jsonb NOT NULL,
    provenance      jsonb NOT NULL,
    preview         jsonb NOT NULL,
    owner           text,
    digest          text NOT NULL,     -- of the proposal: an approval freezes it
    idempotency_key text NOT NULL,
    writes          boolean NOT NULL,
    verdict         jsonb NOT NULL,
    observation     jsonb,             -- null: intended, outcome not yet known
    intended_at     timestamptz NOT NULL,
    observed_at     timestamptz,
    PRIMARY KEY (ticket, idempotency_key)
);

CREATE SEQUENCE approval_number START 101;
CREATE TABLE approval (
    number          bigint PRIMARY KEY DEFAULT nextval('approval_number'),
    id              text NOT NULL GENERATED ALWAYS AS ('A-' || number) STORED,
    ticket          bigint NOT NULL REFERENCES ticket,
    proposal        jsonb NOT NULL,
    digest          text NOT NULL,
    status          text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'approved', 'rejected', 'expired', 'executed')),
    approvers       text NOT NULL,
    rule            text NOT NULL,
    reason          text NOT NULL,
    requested_at    timestamptz NOT NULL,
    expires_at      timestamptz NOT NULL,
    decided_by      text,
    decided_at      timestamptz,
    decision_reason text
);
CREATE UNIQUE INDEX approval_waits_once ON approval (ticket, digest) WHERE status = 'waiting';
CREATE INDEX approval_of_ticket ON approval (ticket, number);
CREATE INDEX approval_waiting ON approval (expires_at) WHERE status = 'waiting';

CREATE TABLE one_time_code (
    ticket      bigint PRIMARY KEY REFERENCES ticket,
    email       text NOT NULL,
    code_sha256 text NOT NULL,
    issued_at   timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL,
    attempts    int NOT NULL DEFAULT 0,
    used_at     timestamptz
);
