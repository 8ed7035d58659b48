-- +goose Up
-- epoch: within one, the sequence only grows and every copy of the revocations continues the one before. A new one
-- begins when a copy has to be made from nothing.
ALTER TABLE revocation_counter ADD COLUMN epoch BIGINT NOT NULL DEFAULT 1;

-- workspace_id '': the installation. cause: what was done to the subject, which a restore has to do again.
ALTER TABLE revocations ADD COLUMN workspace_id TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE revocations ADD COLUMN cause TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX revocations_by_subject ON revocations (subject_id);
CREATE INDEX revocations_by_workspace ON revocations (workspace_id, kind, expires_at);

-- How long a replica may go on by what it has in memory after it lost its lease, in microseconds: for alone by itself,
-- for vouched while the Redis that it names as voucher says what was revoked. lapsed_renewals: at that count of renewals
-- it was seen to have lost the lease, at lapsed_at.
ALTER TABLE replicas ADD COLUMN alone BIGINT NOT NULL DEFAULT 0;
ALTER TABLE replicas ADD COLUMN vouched BIGINT NOT NULL DEFAULT 0;
ALTER TABLE replicas ADD COLUMN voucher TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE replicas ADD COLUMN lapsed_renewals BIGINT NOT NULL DEFAULT -1;
ALTER TABLE replicas ADD COLUMN lapsed_at BIGINT;

-- What a key signs: tokens, or the feed of revocations.
ALTER TABLE signing_keys ADD COLUMN purpose TEXT COLLATE "C" NOT NULL DEFAULT 'token' CHECK (purpose IN ('token', 'feed'));
DROP INDEX signing_keys_one_active;
DROP INDEX signing_keys_one_pending;
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (purpose, alg) WHERE state = 'active';
CREATE UNIQUE INDEX signing_keys_one_pending ON signing_keys (purpose, alg) WHERE state = 'pending';

-- Services that verify tokens, and how far each has followed the revocations.
CREATE TABLE verifiers (
    workspace_id TEXT COLLATE "C"   NOT NULL,
    name         TEXT COLLATE "C"   NOT NULL,
    key_id       TEXT COLLATE "C"   NOT NULL,
    epoch        BIGINT NOT NULL,
    seq          BIGINT NOT NULL,
    reported_at  BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, name)
);
