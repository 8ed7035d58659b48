-- +goose Up
-- How people prove who they are to the console.

-- argon2id, in PHC form. Whoever has no row has no password.
CREATE TABLE passwords (
    user_id    TEXT   PRIMARY KEY REFERENCES users (id),
    phc        TEXT   NOT NULL,
    changed_at BIGINT NOT NULL
);

-- A person at an OpenID provider: issuer and subject, never an address.
CREATE TABLE subjects (
    issuer     TEXT   NOT NULL,
    subject    TEXT   NOT NULL,
    user_id    TEXT   NOT NULL REFERENCES users (id),
    email      TEXT   NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX subjects_by_user ON subjects (user_id);

-- credential: JSON of its public half, flags and counter. Nothing of it is secret.
CREATE TABLE passkeys (
    id            TEXT   PRIMARY KEY,
    credential_id BLOB   NOT NULL UNIQUE,
    user_id       TEXT   NOT NULL REFERENCES users (id),
    name          TEXT   NOT NULL,
    credential    TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    last_used_at  BIGINT
);
CREATE INDEX passkeys_by_user ON passkeys (user_id);

-- Links that work once: digest is the SHA-256 of what the link carries. setup makes the first organization admin,
-- invitation a member of a workspace, access gives a user a way to sign in.
CREATE TABLE links (
    id           TEXT   PRIMARY KEY,
    digest       BLOB   NOT NULL UNIQUE,
    kind         TEXT   NOT NULL CHECK (kind IN ('setup', 'invitation', 'access')),
    workspace_id TEXT   NOT NULL DEFAULT '',
    role         TEXT   NOT NULL DEFAULT '',
    email        TEXT   NOT NULL DEFAULT '',
    user_id      TEXT   NOT NULL DEFAULT '',
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,
    expires_at   BIGINT NOT NULL,
    used_at      BIGINT
);
CREATE INDEX links_by_workspace ON links (workspace_id, kind, created_at);

-- token is the hash of the cookie's value. Ended ones stay until they would have expired, so that a request that was
-- running meanwhile cannot bring one back.
CREATE TABLE sessions (
    token      TEXT   PRIMARY KEY,
    id         TEXT   NOT NULL UNIQUE,
    user_id    TEXT   NOT NULL REFERENCES users (id),
    data       BLOB   NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- What was used and may not be used again: the states and challenges of signing in.
CREATE TABLE spent (
    digest     BLOB   PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
