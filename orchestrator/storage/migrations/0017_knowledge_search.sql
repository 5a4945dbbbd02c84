-- Knowledge: who may read a document and from when to when, words in the document's own language, and what was not found.

ALTER TABLE document
    ADD authority  text NOT NULL DEFAULT 'article',
    ADD language   text NOT NULL DEFAULT '',          -- ISO 639-1; empty: unknown
    ADD groups     text[] NOT NULL DEFAULT '{}',      -- empty: for every group, region, plan
    ADD regions    text[] NOT NULL DEFAULT '{}',
    ADD plans      text[] NOT NULL DEFAULT '{}',
    ADD sensitive  boolean NOT NULL DEFAULT false,    -- requesters are told the summary, never a passage
    ADD summary    text NOT NULL DEFAULT '',
    ADD review_by  date,
    ADD supersedes text[] NOT NULL DEFAULT '{}';      -- ids of documents that this one replaces from its effective_on
CREATE INDEX document_supersedes ON document USING gin (supersedes);

-- The words of a passage with its title (A) and headings (B), as its language bends them. A configuration per language, so that the
-- stop words and the stems of one language never meet those of another.
ALTER TABLE passage DROP COLUMN words;
ALTER TABLE passage
    ADD language regconfig NOT NULL DEFAULT 'pg_catalog.simple',
    ADD terms    tsvector NOT NULL DEFAULT '';
ALTER TABLE passage ALTER vector SET STORAGE MAIN;  -- in the row: the exact scan need not fetch each vector from elsewhere
UPDATE passage p SET terms = setweight(to_tsvector('simple', d.title), 'A') || setweight(to_tsvector('simple', p.heading), 'B')
    || to_tsvector('simple', p.text) FROM document d WHERE d.id = p.document;
CREATE INDEX passage_terms ON passage USING gin (terms);

-- A question that knowledge did not answer: the last one of each ticket. Its vector is the ticket's own, in `embedding`.
CREATE TABLE knowledge_gap (
    ticket   bigint PRIMARY KEY REFERENCES ticket,
    question text NOT NULL,              -- the first of its words
    why      text NOT NULL,              -- "below_threshold", "nothing_found"
    best     float8,                     -- cosine of the nearest passage; null: none
    nearest  text NOT NULL DEFAULT '',   -- its document
    at       timestamptz NOT NULL
);
CREATE INDEX knowledge_gap_at ON knowledge_gap (at);
