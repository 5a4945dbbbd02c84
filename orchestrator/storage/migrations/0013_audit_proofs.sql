-- Text that can be erased while the proof stays whole: an event's hash covers a salted digest of its body, not the body.
--
--   body_sha256 = sha256( salt || utf8(body) )      salt: 16 random bytes; empty for events that were written before this migration
--   hash(seq)   = sha256( hash(seq - 1) || utf8( seq "\n" at "\n" ticket "\n" kind "\n" actor "\n" hex(body_sha256) ) )
--
-- So the hash of an event that was here before stays the same: its bytes are told in 0001_audit.sql, its salt is empty.
-- audit_erase() takes body and salt of a ticket's events away. Without the salt nobody can find out by trying what the text was.

DROP TRIGGER event_stays ON event;
ALTER TABLE event ADD COLUMN salt bytea, ADD COLUMN body_sha256 bytea;
UPDATE event SET salt = '', body_sha256 = sha256(convert_to(body, 'UTF8'));
ALTER TABLE event ALTER body_sha256 SET NOT NULL, ALTER body DROP NOT NULL,
    ADD CHECK ((body IS NULL) = (salt IS NULL)), ADD CHECK (length(salt) IN (0, 16)), ADD CHECK (length(body_sha256) = 32);

-- Salts and digests are made as events are drafted: outside of the one lock that all writers share.
ALTER TABLE event_draft ADD COLUMN salts bytea[] NOT NULL, ADD COLUMN digests bytea[] NOT NULL;
CREATE OR REPLACE FUNCTION audit_append(tickets text[], kinds text[], actors text[], bodies text[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO event_draft (tickets, kinds, actors, bodies, salts, digests)
    SELECT $1, $2, $3, $4, array_agg(salt ORDER BY ord), array_agg(sha256(salt || convert_to(body, 'UTF8')) ORDER BY ord)
    FROM (SELECT ord, body, uuid_send(gen_random_uuid()) AS salt FROM unnest($4) WITH ORDINALITY AS b (body, ord) OFFSET 0) AS salted
    HAVING count(*) > 0;
$$;

CREATE OR REPLACE FUNCTION audit_chain() RETURNS trigger LANGUAGE plpgsql AS $$
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
    stamp := E'\n' || to_char(head.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || E'\n';
    FOR draft IN SELECT * FROM event_draft WHERE id >= NEW.id ORDER BY id LOOP
        first := head.seq;
        hashes := '{}';
        FOR i IN 1 .. cardinality(draft.kinds) LOOP
            head.seq := head.seq + 1;
            head.hash := sha256(head.hash || convert_to(
                head.seq || stamp || coalesce(draft.tickets[i], '') || E'\n' || draft.kinds[i] || E'\n' || draft.actors[i]
                || E'\n' || encode(draft.digests[i], 'hex'), 'UTF8'));
            hashes[i] := head.hash;
        END LOOP;
        INSERT INTO event (seq, at, ticket, kind, actor, salt, body_sha256, body, hash)
        SELECT first + d.ord, head.at, d.ticket, d.kind, d.actor, d.salt, d.digest, d.body, d.hash
        FROM unnest(draft.tickets, draft.kinds, draft.actors, draft.salts, draft.digests, draft.bodies, hashes)
             WITH ORDINALITY AS d (ticket, kind, actor, salt, digest, body, hash, ord);
    END LOOP;
    DELETE FROM event_draft WHERE id >= NEW.id;
    UPDATE chain_head SET seq = head.seq, at = head.at, hash = head.hash;
    RETURN NULL;
END $$;

-- What is written stays as it is, but for the one way to take text away: a row of `erasure`, whose trigger does it and tells it in the log.
CREATE TABLE erasure (
    ticket bigint NOT NULL REFERENCES ticket,
    reason text NOT NULL CHECK (reason <> ''),
    actor  text NOT NULL,
    at     timestamptz NOT NULL DEFAULT now(),
    events bigint  -- how many lost their text
);
CREATE INDEX erasure_of_ticket ON erasure (ticket);
ALTER TABLE ticket ADD COLUMN erased_at timestamptz;

CREATE FUNCTION audit_text_only_goes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.body IS NOT NULL OR NEW.salt IS NOT NULL OR NEW.kind IN ('erased', 'checkpointed')
        OR (NEW.seq, NEW.at, NEW.kind, NEW.actor, NEW.body_sha256, NEW.hash) IS DISTINCT FROM (OLD.seq, OLD.at, OLD.kind, OLD.actor, OLD.body_sha256, OLD.hash)
        OR NEW.ticket IS DISTINCT FROM OLD.ticket THEN
        RAISE EXCEPTION USING ERRCODE = 'CL002', MESSAGE = 'UPDATE of event is refused: the log is append-only.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER event_stays BEFORE DELETE OR TRUNCATE ON event FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER event_changed_by_erasure_only BEFORE UPDATE ON event FOR EACH STATEMENT
    WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER event_text_only_goes BEFORE UPDATE ON event FOR EACH ROW EXECUTE FUNCTION audit_text_only_goes();

CREATE FUNCTION erasure_done() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    seqs bigint[];
BEGIN
    WITH gone AS (
        UPDATE event SET body = NULL, salt = NULL
        WHERE ticket = 'T-' || NEW.ticket AND body IS NOT NULL AND kind NOT IN ('erased', 'checkpointed') RETURNING seq
    )
    SELECT coalesce(array_agg(seq ORDER BY seq), '{}') INTO seqs FROM gone;
    NEW.events := cardinality(seqs);
    PERFORM audit_append(ARRAY['T-' || NEW.ticket], ARRAY['erased'], ARRAY[NEW.actor],
        ARRAY[jsonb_build_object('seqs', to_jsonb(seqs), 'reason', NEW.reason)::text]);
    RETURN NEW;
END $$;
CREATE TRIGGER erasure_done BEFORE INSERT ON erasure FOR EACH ROW EXECUTE FUNCTION erasure_done();
CREATE TRIGGER erasure_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON erasure FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- Events that this transaction drafted are chained first, so that they are erased, too. Gives how many events lost their text.
CREATE FUNCTION audit_erase(which bigint, reason text, actor text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    count bigint;
BEGIN
    SET CONSTRAINTS event_draft_chained IMMEDIATE;
    INSERT INTO erasure (ticket, reason, actor) VALUES (which, reason, actor) RETURNING events INTO count;
    RETURN count;
END $$;

-- There is nothing left to work on.
CREATE FUNCTION ticket_erased_rests() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'CL001', MESSAGE = format('%s was erased and cannot become %s.', OLD.id, NEW.state),
        HINT = 'Open a new ticket.';
END $$;
CREATE TRIGGER ticket_erased_rests BEFORE UPDATE ON ticket FOR EACH ROW
    WHEN (OLD.erased_at IS NOT NULL AND NEW.state <> OLD.state AND NEW.state <> 'closed') EXECUTE FUNCTION ticket_erased_rests();
