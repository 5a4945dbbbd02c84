-- Which writing transactions were committed. A transaction's number does not tell: one that was lost in a crash before anything of it
-- reached the disk leaves its number to another, which may be committed. Rows are kept for some minutes.
CREATE TABLE commit_marker (
    token uuid PRIMARY KEY,
    at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX commit_marker_at ON commit_marker (at);
