-- +goose Up
-- A deleted workspace keeps its row, so that its slug, which services may authorise by, is nobody's again.
ALTER TABLE workspaces ADD COLUMN deleted_at BIGINT;
ALTER TABLE users ADD COLUMN deleted_at BIGINT;
ALTER TABLE keys ADD COLUMN deleted_at BIGINT;
CREATE INDEX workspaces_by_time ON workspaces (created_at, id);
CREATE INDEX users_by_time ON users (created_at, id);
CREATE INDEX members_by_time ON members (workspace_id, created_at, user_id);
CREATE INDEX service_accounts_by_time ON service_accounts (workspace_id, created_at, id);

-- What is denied before its tokens expire: whoever carries a smaller generation than the one here. The sequence comes
-- from one locked row, so it is gapless and in commit order. expires_at: no token that it concerns is good after.
CREATE TABLE revocation_counter (
    id  INTEGER PRIMARY KEY CHECK (id = 1),
    seq BIGINT NOT NULL
);
INSERT INTO revocation_counter (id, seq) VALUES (1, 0);
CREATE TABLE revocations (
    seq        BIGINT PRIMARY KEY,
    kind       TEXT COLLATE "C" NOT NULL CHECK (kind IN ('jti', 'key', 'sub', 'ws', 'kid')),
    subject_id TEXT COLLATE "C" NOT NULL,
    generation BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX revocations_by_expiry ON revocations (expires_at);

-- Answers of requests with an Idempotency-Key, found by keyed digests of it. sealed: the answer, under a key derived from
-- the Idempotency-Key and a secret outside the database; NULL once it may not be replayed any more.
CREATE TABLE idempotency (
    id         BYTEA   PRIMARY KEY,
    request    BYTEA   NOT NULL,
    subject_id TEXT COLLATE "C" NOT NULL,
    sealed     BYTEA,
    created_at BIGINT NOT NULL
);
CREATE INDEX idempotency_by_time ON idempotency (created_at);

-- Form 2 of an event has further columns, which its hash covers too: form, key_id (the API key that the actor used),
-- owner_id (the service account or user whom it concerns), address, agent, request_id.
ALTER TABLE audit_events ADD COLUMN form BIGINT NOT NULL DEFAULT 1;
ALTER TABLE audit_events ADD COLUMN key_id TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit_events ADD COLUMN owner_id TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit_events ADD COLUMN address TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit_events ADD COLUMN agent TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit_events ADD COLUMN request_id TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX audit_events_by_time ON audit_events (chain, at, id);

-- Exchanges, issued and refused. Each batch of a replica is one Merkle root in the chain 'exchanges'.
-- workspace_id '': the key ID is nobody's. count: how many alike one row stands for.
CREATE TABLE exchange_events (
    batch        BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    id           TEXT COLLATE "C" NOT NULL UNIQUE,
    at           BIGINT NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL,
    key_id       TEXT COLLATE "C" NOT NULL,
    owner_id     TEXT COLLATE "C" NOT NULL,
    secret_id    TEXT COLLATE "C" NOT NULL,
    action       TEXT COLLATE "C" NOT NULL,
    outcome      TEXT COLLATE "C" NOT NULL,
    address      TEXT COLLATE "C" NOT NULL,
    agent        TEXT COLLATE "C" NOT NULL,
    request_id   TEXT COLLATE "C" NOT NULL,
    detail       TEXT COLLATE "C" NOT NULL,
    count        BIGINT NOT NULL,
    PRIMARY KEY (batch, position)
);
CREATE INDEX exchange_events_by_time ON exchange_events (workspace_id, at, id);
CREATE INDEX exchange_events_by_key ON exchange_events (key_id, at);

-- What the webhook still has to be told; a row goes when it was taken or given up.
CREATE TABLE webhook_outbox (
    id            TEXT COLLATE "C" PRIMARY KEY,
    type          TEXT COLLATE "C" NOT NULL,
    payload       TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    attempts      BIGINT NOT NULL DEFAULT 0,
    next_at       BIGINT NOT NULL,
    last_error    TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX webhook_outbox_by_next ON webhook_outbox (next_at);

-- Which coming expiry of a key was announced: once for each number of days before it.
CREATE TABLE webhook_expiry_notices (
    key_id     TEXT COLLATE "C" NOT NULL REFERENCES keys (id),
    expires_at BIGINT NOT NULL,
    days       BIGINT NOT NULL,
    PRIMARY KEY (key_id, expires_at, days)
);
CREATE INDEX keys_by_expiry ON keys (expires_at);

-- A hint is now how the random part of a secret begins; older ones were its end.
UPDATE key_secrets SET hint = '';
