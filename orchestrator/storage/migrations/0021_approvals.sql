-- Approvals by several people, each word of a person a row; edits; what was approved holds for a while; emergencies are looked at again.

ALTER TABLE approval
    ADD quorum        int NOT NULL DEFAULT 1 CHECK (quorum >= 1),  -- different people who must approve
    ADD change        text,                    -- normal (CAB), emergency (ECAB), ...
    ADD valid_until   timestamptz,             -- approved, but not carried out by then: a no
    ADD proposed_by   text NOT NULL DEFAULT 'cloister',  -- a person, where it is an edit
    ADD superseded_by bigint REFERENCES approval,
    ADD wants_review  boolean NOT NULL DEFAULT false,  -- an emergency: somebody looks at it again after it was done
    ADD review_due_at timestamptz,             -- until then
    ADD reviewed_by   text,
    ADD reviewed_at   timestamptz,
    ADD review        text;
ALTER TABLE approval DROP CONSTRAINT approval_status_check;
ALTER TABLE approval ADD CONSTRAINT approval_status_check
    CHECK (status IN ('waiting', 'approved', 'rejected', 'expired', 'executed', 'superseded'));
CREATE INDEX approval_valid ON approval (valid_until) WHERE status = 'approved';
CREATE INDEX approval_to_review ON approval (review_due_at) WHERE reviewed_at IS NULL AND review_due_at IS NOT NULL;

CREATE TABLE approval_vote (
    approval bigint NOT NULL REFERENCES approval,
    person   text NOT NULL,      -- folded, so that nobody counts twice
    by       text NOT NULL,
    role     text NOT NULL,
    approve  boolean NOT NULL,
    reason   text NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (approval, person)
);
CREATE FUNCTION approval_vote_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'CL002', MESSAGE = format('%s of a word that somebody gave on an approval is refused.', TG_OP),
        HINT = 'Reject, or ask anew.';
END $$;
CREATE TRIGGER approval_vote_stays BEFORE DELETE OR TRUNCATE ON approval_vote
    FOR EACH STATEMENT EXECUTE FUNCTION approval_vote_refuse();
CREATE TRIGGER approval_vote_stays_as_given BEFORE UPDATE ON approval_vote FOR EACH ROW  -- erasing a ticket takes the words, not the vote
    WHEN ((OLD.approval, OLD.person, OLD.by, OLD.role, OLD.approve, OLD.at, '')
          IS DISTINCT FROM (NEW.approval, NEW.person, NEW.by, NEW.role, NEW.approve, NEW.at, NEW.reason))
    EXECUTE FUNCTION approval_vote_refuse();

CREATE TABLE approval_link (  -- a link by mail: shows one frozen action to one person, who decides once
    nonce      text PRIMARY KEY,
    approval   bigint NOT NULL REFERENCES approval,
    digest     text NOT NULL,
    person     text NOT NULL,
    role       text NOT NULL,
    expires_at timestamptz NOT NULL,
    made_by    text NOT NULL,
    used_at    timestamptz
);
CREATE INDEX approval_link_of ON approval_link (approval);
