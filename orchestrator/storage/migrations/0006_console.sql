-- The console: passwords that work once, and the sessions that they open. Only digests are held, keyed by a secret that is not in here.

CREATE TABLE console_login (
    digest     text PRIMARY KEY,
    name       text NOT NULL,   -- who it is for; stands in the log for what is done with it
    role       text NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at    timestamptz
);
CREATE INDEX console_login_by_age ON console_login (expires_at);

CREATE TABLE console_session (
    digest     text PRIMARY KEY,
    name       text NOT NULL,
    role       text NOT NULL,
    opened_at  timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX console_session_by_age ON console_session (expires_at);
