-- Knowledge: documents in passages, found by meaning and by words.

CREATE TABLE document (
    id           text PRIMARY KEY,
    title        text NOT NULL,
    source       text NOT NULL,
    audience     text NOT NULL,        -- "requester": may be quoted to anyone; other values: for the desk alone
    version      text,
    effective_on date,                 -- null: always was
    expires_on   date,                 -- null: still is; from this day on the document is not found
    reviewed_on  date,
    digest       text NOT NULL,
    body         jsonb NOT NULL,       -- the document as it was put
    put_at       timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE passage (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document text NOT NULL REFERENCES document ON DELETE CASCADE,
    place    int NOT NULL,
    heading  text NOT NULL,
    text     text NOT NULL,
    model    text NOT NULL,
    vector   vector NOT NULL,
    words    tsvector NOT NULL GENERATED ALWAYS AS (to_tsvector('simple', heading || ' ' || text)) STORED
);
CREATE INDEX passage_of_document ON passage (document, place);
