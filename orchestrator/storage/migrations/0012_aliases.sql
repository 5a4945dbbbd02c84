-- What each alias of a task stands for now: a projection of the registry's history, so that replicas need none of its files.
CREATE TABLE model_alias (
    task          text NOT NULL CHECK (task IN ('triage', 'embedding')),
    alias         text NOT NULL,                 -- live, canary, shadow
    name          text NOT NULL,                 -- content-addressed: "name@sha256-..."
    path          text NOT NULL DEFAULT '',      -- its folder, as every replica sees it
    percent       float8 CHECK (percent BETWEEN 0 AND 100),  -- of a canary: its share of the tickets
    needs         jsonb NOT NULL DEFAULT '{}',   -- embedders that its head needs: {full name: folder}
    previous_name text NOT NULL DEFAULT '',      -- what it stood for before: served on, by its own name, while the new one is broken
    previous_path text NOT NULL DEFAULT '',
    set_at        timestamptz NOT NULL DEFAULT now(),
    by            text NOT NULL DEFAULT 'cloister',
    reason        text NOT NULL DEFAULT '',
    PRIMARY KEY (task, alias)
);
INSERT INTO model_alias (task, alias, name, path, set_at) SELECT 'triage', alias, name, coalesce(path, ''), set_at FROM adapter_desired;
DROP TABLE adapter_desired;

-- What each replica says that it really serves. Nobody's desire: a replica that is gone is not heard of any more.
CREATE TABLE model_report (
    part    text NOT NULL,        -- language_model, embedder, orchestrator
    replica text NOT NULL,
    body    jsonb NOT NULL,
    at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (part, replica)
);

-- What a model behind the alias `shadow` would have said. Read by people and by evaluation; no ticket is changed by it.
CREATE TABLE shadow_prediction (
    ticket     bigint NOT NULL REFERENCES ticket,
    name       text NOT NULL,
    category   text NOT NULL,
    confidence float8 NOT NULL,
    abstained  boolean NOT NULL,
    body       jsonb NOT NULL,      -- the whole classification
    at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (ticket, name)
);
CREATE INDEX shadow_prediction_of_model ON shadow_prediction (name, at);
