-- The append-only log. One event per row, each hashed together with the one before it.
--
-- The exact bytes, so that anybody can recompute them with a standard library:
--   hash(seq) = sha256( hash(seq - 1) as 32 raw bytes
--                       || utf8( seq "\n" at "\n" ticket "\n" kind "\n" actor "\n" hex(sha256(utf8(body))) ) )
--   seq     decimal, from 1 without a gap        at     UTC, YYYY-MM-DDTHH:MM:SS.ffffffZ
--   ticket  "T-1001", empty where there is none  kind, actor  as stored (no newline can be in them)
--   body    the exact JSON text as stored        hex    lower case       hash(0) = 32 zero bytes
--
-- audit_append() takes events as drafts; a deferred trigger chains them when the transaction commits. So the one lock that all
-- writers share, the row of chain_head, is taken last and held only while the events are hashed and the commit is flushed.

CREATE TABLE event (
    seq    bigint PRIMARY KEY,
    at     timestamptz NOT NULL,
    ticket text CHECK (ticket !~ '\n'),
    kind   text NOT NULL CHECK (kind ~ '^[a-z][a-z0-9_]*$'),
    actor  text NOT NULL CHECK (actor !~ '\n'),
    body   text NOT NULL,
    hash   bytea NOT NULL
);
CREATE INDEX event_of_ticket ON event (ticket, seq) WHERE ticket IS NOT NULL;

CREATE TABLE chain_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq      bigint NOT NULL,
    at       timestamptz NOT NULL,
    hash     bytea NOT NULL
);
INSERT INTO chain_head (seq, at, hash) VALUES (0, '1970-01-01Z', decode(repeat('00', 32), 'hex'));

-- Empty in every committed state of the database: what a transaction drafts, its own commit takes out again.
CREATE TABLE event_draft (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tickets text[] NOT NULL,
    kinds   text[] NOT NULL,
    actors  text[] NOT NULL,
    bodies  text[] NOT NULL,
    CHECK (cardinality(tickets) = cardinality(kinds) AND cardinality(kinds) = cardinality(actors) AND cardinality(actors) = cardinality(bodies))
);
ALTER TABLE event_draft ALTER bodies SET STORAGE EXTERNAL;  -- short-lived: compressing would only cost

CREATE FUNCTION audit_append(tickets text[], kinds text[], actors text[], bodies text[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO event_draft (tickets, kinds, actors, bodies) SELECT $1, $2, $3, $4 WHERE cardinality($2) > 0;
$$;

CREATE FUNCTION audit_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    head   chain_head%ROWTYPE;
    draft  event_draft%ROWTYPE;
    stamp  text;
    hashes bytea[];
    first  bigint;
BEGIN
    PERFORM FROM event_draft WHERE id = NEW.id;
    IF NOT FOUND THEN
        RETURN NULL;  -- chained already, with an earlier draft of this transaction
    END IF;
    SELECT * INTO STRICT head FROM chain_head FOR UPDATE;
    head.at := greatest(clock_timestamp(), head.at);
    stamp := to_char(head.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
    FOR draft IN SELECT * FROM event_draft WHERE id >= NEW.id ORDER BY id LOOP
        first := head.seq;
        hashes := '{}';
        FOR i IN 1 .. cardinality(draft.kinds) LOOP
            head.seq := head.seq + 1;
            head.hash := sha256(head.hash || convert_to(
                head.seq || E'\n' || stamp || E'\n' || coalesce(draft.tickets[i], '') || E'\n' || draft.kinds[i] || E'\n' || draft.actors[i]
                || E'\n' || encode(sha256(convert_to(draft.bodies[i], 'UTF8')), 'hex'), 'UTF8'));
            hashes[i] := head.hash;
        END LOOP;
        INSERT INTO event (seq, at, ticket, kind, actor, body, hash)
        SELECT first + d.ord, head.at, d.ticket, d.kind, d.actor, d.body, d.hash
        FROM unnest(draft.tickets, draft.kinds, draft.actors, draft.bodies, hashes)
             WITH ORDINALITY AS d (ticket, kind, actor, body, hash, ord);
    END LOOP;
    DELETE FROM event_draft WHERE id >= NEW.id;
    UPDATE chain_head SET seq = head.seq, at = head.at, hash = head.hash;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER event_draft_chained AFTER INSERT ON event_draft
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION audit_chain();

-- What is written stays as it is. (Who may switch triggers off can still edit: the chain shows that.)
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'CL002', MESSAGE = format('%s of %s is refused: the log is append-only.', TG_OP, TG_TABLE_NAME),
        HINT = 'Write a new event that corrects the earlier one.';
END $$;
CREATE TRIGGER event_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON event FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER event_by_chain_only BEFORE INSERT ON event FOR EACH STATEMENT
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER chain_head_stays BEFORE INSERT OR DELETE OR TRUNCATE ON chain_head FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER chain_head_by_chain_only BEFORE UPDATE ON chain_head FOR EACH STATEMENT
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION audit_refuse();
