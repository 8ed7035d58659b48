-- +goose Up
-- published_at: when every replica was known to publish the key. needed_until: no token that the key signed is
-- good for longer; known once every replica has stopped signing with it.
ALTER TABLE signing_keys ADD COLUMN published_at BIGINT;
ALTER TABLE signing_keys ADD COLUMN needed_until BIGINT;
UPDATE signing_keys SET published_at = created_at;
CREATE UNIQUE INDEX signing_keys_one_pending ON signing_keys (alg) WHERE state = 'pending';

-- What a replica reports of itself with each renewal: the signing keys that it has opened, separated by spaces.
ALTER TABLE replicas ADD COLUMN holds TEXT COLLATE "C" NOT NULL DEFAULT '';
