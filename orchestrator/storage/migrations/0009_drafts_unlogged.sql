-- Drafts of events live no longer than their transaction: nothing of them has to survive a crash, so nothing of them goes into the WAL.
ALTER TABLE event_draft SET UNLOGGED;
