-- +goose Up
-- Times are BIGINT microseconds since 1970 in UTC. Sets (scopes, audiences) are space-separated text.
-- Generations start at 1 and only grow: a token that carries a smaller one is denied.

-- One row: what made this database, fingerprints of the secrets that belong to it (JSON), and for
-- throw-away databases only, those secrets.
CREATE TABLE installation (
    id          INTEGER PRIMARY KEY CHECK (id = 1),
    made_by     TEXT   NOT NULL DEFAULT '',
    fingerprints TEXT   NOT NULL DEFAULT '{}',
    dev_secrets  TEXT   NOT NULL DEFAULT '',
    created_at  BIGINT NOT NULL
);

-- One row, locked by every management transaction: the sequence is gapless and in commit order.
CREATE TABLE change_counter (
    id  INTEGER PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL
);
INSERT INTO change_counter (id, seq) VALUES (1, 0);

-- What changed, for the caches of every replica.
CREATE TABLE changes (
    seq        BIGINT NOT NULL,
    subject_id TEXT   NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (seq, subject_id)
);

-- The lease-holders: a replica may serve from its cache only while it renews its row.
CREATE TABLE replicas (
    id         TEXT   PRIMARY KEY,
    host       TEXT   NOT NULL,
    renewals   BIGINT NOT NULL,
    acked_seq  BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL
);

CREATE TABLE workspaces (
    id           TEXT   PRIMARY KEY,
    slug         TEXT   NOT NULL UNIQUE,
    name         TEXT   NOT NULL,
    generation   BIGINT NOT NULL DEFAULT 1,
    suspended_at BIGINT,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL
);

CREATE TABLE users (
    id                 TEXT   PRIMARY KEY,
    email              TEXT   NOT NULL UNIQUE,
    name               TEXT   NOT NULL DEFAULT '',
    organization_admin BOOLEAN NOT NULL DEFAULT FALSE,
    generation         BIGINT NOT NULL DEFAULT 1,
    disabled_at        BIGINT,
    created_at         BIGINT NOT NULL,
    updated_at         BIGINT NOT NULL
);

CREATE TABLE members (
    workspace_id TEXT   NOT NULL REFERENCES workspaces (id),
    user_id      TEXT   NOT NULL REFERENCES users (id),
    role         TEXT   NOT NULL CHECK (role IN ('owner', 'manager', 'viewer')),
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, user_id)
);
CREATE INDEX members_by_user ON members (user_id);

CREATE TABLE service_accounts (
    id           TEXT   PRIMARY KEY,
    workspace_id TEXT   NOT NULL REFERENCES workspaces (id),
    name         TEXT   NOT NULL,
    description  TEXT   NOT NULL DEFAULT '',
    role         TEXT   NOT NULL DEFAULT '',
    scopes       TEXT   NOT NULL DEFAULT '',
    generation   BIGINT NOT NULL DEFAULT 1,
    disabled_at  BIGINT,
    deleted_at   BIGINT,
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,
    updated_at   BIGINT NOT NULL,
    CHECK (role = '' OR scopes = '')
);
CREATE UNIQUE INDEX service_accounts_by_name ON service_accounts (workspace_id, name) WHERE deleted_at IS NULL;

-- An API key: the credential of one service account or, a personal key, of one user in one workspace.
-- scopes NULL means: whatever its owner holds. audiences '' means: any registered one.
CREATE TABLE keys (
    id                 TEXT   PRIMARY KEY,
    workspace_id       TEXT   NOT NULL REFERENCES workspaces (id),
    service_account_id TEXT   REFERENCES service_accounts (id),
    user_id            TEXT   REFERENCES users (id),
    name               TEXT   NOT NULL,
    description        TEXT   NOT NULL DEFAULT '',
    scopes             TEXT,
    audiences          TEXT   NOT NULL DEFAULT '',
    allowed_cidrs      TEXT   NOT NULL DEFAULT '',
    token_ttl_seconds  BIGINT,
    generation         BIGINT NOT NULL DEFAULT 1,
    expires_at         BIGINT,
    revoked_at         BIGINT,
    revoked_reason     TEXT   NOT NULL DEFAULT '',
    last_failed_at     BIGINT,
    created_at         BIGINT NOT NULL,
    created_by         TEXT   NOT NULL,
    updated_at         BIGINT NOT NULL,
    CHECK ((service_account_id IS NULL) <> (user_id IS NULL))
);
CREATE INDEX keys_by_workspace ON keys (workspace_id, created_at, id);
CREATE INDEX keys_by_service_account ON keys (service_account_id);
CREATE INDEX keys_by_user ON keys (user_id);

-- One or, while a key is rotated, two live secrets of a key. Only a keyed digest is stored.
CREATE TABLE key_secrets (
    id                TEXT   PRIMARY KEY,
    key_id            TEXT   NOT NULL REFERENCES keys (id),
    digest            BLOB   NOT NULL,
    pepper_version    BIGINT NOT NULL,
    hint              TEXT   NOT NULL,
    created_at        BIGINT NOT NULL,
    expires_at        BIGINT,
    last_used_at      BIGINT,
    last_used_address TEXT   NOT NULL DEFAULT '',
    last_used_agent   TEXT   NOT NULL DEFAULT ''
);
CREATE INDEX key_secrets_by_key ON key_secrets (key_id);

-- sealed: the private key under the key-encryption key kek_id, bound to this row; NULL once removed.
CREATE TABLE signing_keys (
    kid          TEXT   PRIMARY KEY,
    alg          TEXT   NOT NULL,
    state        TEXT   NOT NULL CHECK (state IN ('pending', 'active', 'retiring', 'removed')),
    public_jwk   TEXT   NOT NULL,
    sealed       BLOB,
    kek_id       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    activated_at BIGINT,
    retired_at   BIGINT,
    removed_at   BIGINT
);
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (alg) WHERE state = 'active';

-- Hash-chained events: one chain per workspace, and 'instance' for what belongs to none.
CREATE TABLE audit_heads (
    chain TEXT   PRIMARY KEY,
    seq   BIGINT NOT NULL,
    hash  BLOB   NOT NULL
);
CREATE TABLE audit_events (
    chain      TEXT   NOT NULL,
    seq        BIGINT NOT NULL,
    id         TEXT   NOT NULL UNIQUE,
    at         BIGINT NOT NULL,
    action     TEXT   NOT NULL,
    actor_kind TEXT   NOT NULL,
    actor_id   TEXT   NOT NULL,
    subject_id TEXT   NOT NULL,
    detail     TEXT   NOT NULL,
    hash       BLOB   NOT NULL,
    PRIMARY KEY (chain, seq)
);
CREATE INDEX audit_events_by_subject ON audit_events (subject_id, at);
