-- Who may do what, and what people saved. Texts and 64-bit integers only, so that SQLite and PostgreSQL read the same;
-- instants are microseconds since 1970. Migrations are only added, never changed.

-- Grows with every change of keys or quotas: whoever holds a copy of them asks for this first.
CREATE TABLE revisions (
    name TEXT PRIMARY KEY,
    revision BIGINT NOT NULL
);
INSERT INTO revisions (name, revision) VALUES ('access', 0);

-- What a tenant may use, where it is not what the configuration says for all.
CREATE TABLE quotas (
    tenant TEXT PRIMARY KEY,
    queries_per_second_max BIGINT,
    live_clients_max BIGINT,
    rows_per_minute_max BIGINT
);

-- The key itself is not kept: the prefix finds it, the hash recognises it.
CREATE TABLE access_keys (
    prefix TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);
CREATE INDEX access_keys_by_tenant ON access_keys (tenant, created_at);

-- A person; `password` is an argon2 hash, absent for those who sign in elsewhere.
CREATE TABLE users (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    password TEXT,
    created_at BIGINT NOT NULL
);

-- The same person at an OpenID provider.
CREATE TABLE identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (issuer, subject)
);

CREATE TABLE memberships (
    tenant TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, user_id)
);
CREATE INDEX memberships_by_user ON memberships (user_id, tenant);

-- A membership that waits for the person who holds the token.
CREATE TABLE invitations (
    sha256 TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    email TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX invitations_by_tenant ON invitations (tenant, expires_at);
CREATE INDEX invitations_by_email ON invitations (email);

CREATE TABLE sessions (
    sha256 TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    tenant TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (user_id, created_at);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- Identifiers grow with time.
CREATE TABLE audit (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    detail TEXT NOT NULL
);
CREATE INDEX audit_by_tenant ON audit (tenant, id);

-- What people save: dashboards, metrics and the like, told apart by their kind; the body is JSON.
CREATE TABLE documents (
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    body TEXT NOT NULL,
    revision BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    PRIMARY KEY (tenant, kind, id)
);
