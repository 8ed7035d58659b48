-- +goose Up
-- How people prove who they are to the console.

-- argon2id, in PHC form. Whoever has no row has no password.
CREATE TABLE passwords (
    user_id    TEXT COLLATE "C" PRIMARY KEY REFERENCES users (id),
    phc        TEXT COLLATE "C" NOT NULL,
    changed_at BIGINT NOT NULL
);

-- A person at an OpenID provider: issuer and subject, never an address.
CREATE TABLE subjects (
    issuer     TEXT COLLATE "C" NOT NULL,
    subject    TEXT COLLATE "C" NOT NULL,
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    email      TEXT COLLATE "C" NOT NULL DEFAULT '',
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    PRIMARY KEY (issuer, subject)
);
CREATE INDEX subjects_by_user ON subjects (user_id);

-- credential: JSON of its public half, flags and counter. Nothing of it is secret.
CREATE TABLE passkeys (
    id            TEXT COLLATE "C" PRIMARY KEY,
    credential_id BYTEA  NOT NULL UNIQUE,
    user_id       TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    name          TEXT COLLATE "C" NOT NULL,
    credential    TEXT COLLATE "C" NOT NULL,
    created_at    BIGINT NOT NULL,
    last_used_at  BIGINT
);
CREATE INDEX passkeys_by_user ON passkeys (user_id);

-- Links that work once: digest is the SHA-256 of what the link carries. setup makes the first organization admin,
-- invitation a member of a workspace, access gives a user a way to sign in.
CREATE TABLE links (
    id           TEXT COLLATE "C" PRIMARY KEY,
    digest       BYTEA  NOT NULL UNIQUE,
    kind         TEXT COLLATE "C" NOT NULL CHECK (kind IN ('setup', 'invitation', 'access')),
    workspace_id TEXT COLLATE "C" NOT NULL DEFAULT '',
    role         TEXT COLLATE "C" NOT NULL DEFAULT '',
    email        TEXT COLLATE "C" NOT NULL DEFAULT '',
    user_id      TEXT COLLATE "C" NOT NULL DEFAULT '',
    created_at   BIGINT NOT NULL,
    created_by   TEXT COLLATE "C" NOT NULL,
    expires_at   BIGINT NOT NULL,
    used_at      BIGINT
);
CREATE INDEX links_by_workspace ON links (workspace_id, kind, created_at);

-- token is the hash of the cookie's value. Ended ones stay until they would have expired, so that a request that was
-- running meanwhile cannot bring one back.
CREATE TABLE sessions (
    token      TEXT COLLATE "C" PRIMARY KEY,
    id         TEXT COLLATE "C" NOT NULL UNIQUE,
    user_id    TEXT COLLATE "C" NOT NULL REFERENCES users (id),
    data       BYTEA  NOT NULL,
    created_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    ended_at   BIGINT
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- What was used and may not be used again: the states and challenges of signing in.
CREATE TABLE spent (
    digest     BYTEA  PRIMARY KEY,
    expires_at BIGINT NOT NULL
);
