-- Budgets and anomaly counters read the acts of the last days that give something away: those with a number `amount`.
CREATE INDEX step_that_spends ON step (intended_at) WHERE writes AND jsonb_typeof(arguments -> 'amount') = 'number';
