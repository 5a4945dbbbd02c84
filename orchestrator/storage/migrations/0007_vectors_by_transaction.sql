-- Which transaction wrote a vector, so that a process that keeps the window's vectors in memory can ask for what it has not seen yet:
-- everything from the oldest transaction that was still running when it last asked. (A number from a sequence would not do: what commits
-- late would be passed over.)
ALTER TABLE embedding ADD COLUMN written_by xid8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX embedding_by_transaction ON embedding (model, written_by);
