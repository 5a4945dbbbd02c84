-- What runs the desk: switches, keys, remembered answers, adapters.

CREATE TABLE switch (
    name    text PRIMARY KEY,
    stopped boolean NOT NULL,
    reason  text NOT NULL,
    by      text NOT NULL,
    at      timestamptz NOT NULL DEFAULT now()
);
INSERT INTO switch (name, stopped, reason, by) VALUES ('autonomy', false, 'as installed', 'cloister');

CREATE TABLE api_key (
    name       text PRIMARY KEY,
    role       text NOT NULL,
    kind       text NOT NULL,
    sha256     text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE idempotency (
    key         text NOT NULL,
    route       text NOT NULL,
    body_sha256 text NOT NULL,
    status      int NOT NULL,
    body        jsonb NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (key, route)
);
CREATE INDEX idempotency_by_age ON idempotency (at);

CREATE TABLE adapter_desired (
    alias  text PRIMARY KEY,
    name   text NOT NULL,   -- content-addressed: "name@sha256-..."
    path   text,
    set_at timestamptz NOT NULL DEFAULT now()
);
