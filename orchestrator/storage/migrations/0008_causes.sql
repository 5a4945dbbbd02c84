-- What the monitoring explains: tickets of one cause are found whatever their words.
CREATE INDEX triage_causes ON triage USING gin ((body -> 'causes'));
