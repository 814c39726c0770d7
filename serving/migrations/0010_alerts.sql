-- What is watched for people, where it stands, and whom it was told. Texts and 64-bit integers only.

CREATE TABLE alerts (
    tenant TEXT NOT NULL,
    id TEXT NOT NULL,
    definition TEXT NOT NULL,
    secret TEXT NOT NULL,
    revision BIGINT NOT NULL,
    standing TEXT NOT NULL,
    number TEXT,
    created_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);

-- Every time that people are told something. Identifiers grow with time.
CREATE TABLE alert_events (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    alert TEXT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX alert_events_by_tenant ON alert_events (tenant, id);

-- Messages to other systems, until they arrived or are given up.
CREATE TABLE alert_messages (
    event TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    alert TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    problem TEXT
);
CREATE INDEX alert_messages_by_time ON alert_messages (state, next_at);

-- Which process does a work that only one should do, and until when unless it goes on.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    until BIGINT NOT NULL
);
