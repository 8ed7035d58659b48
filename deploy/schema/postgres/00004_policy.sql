-- +goose Up
-- What organization admins decided, one row per version: the newest that can be read counts. kind 'keys': what API keys
-- may be and do; kind 'quota': how many and how fast. subject_id: 'organization' or a workspace. document: JSON.
CREATE TABLE policies (
    kind       TEXT COLLATE "C" NOT NULL CHECK (kind IN ('keys', 'quota')),
    subject_id TEXT COLLATE "C" NOT NULL,
    version    BIGINT NOT NULL,
    document   TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, subject_id, version)
);

-- max_uses: how often the key may be used at all; uses: how often it was, counted only while there is such a limit.
-- exchanges_per_minute: of this key, within the quota of its workspace.
ALTER TABLE keys ADD COLUMN max_uses BIGINT;
ALTER TABLE keys ADD COLUMN uses BIGINT NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN exchanges_per_minute BIGINT;

-- How many exchanges a workspace had in a calendar day ('2026-11-24') or month ('2026-11'), in UTC. Replicas add to it
-- every few seconds; what is exact meanwhile is in Redis or in memory.
CREATE TABLE exchange_counts (
    workspace_id TEXT COLLATE "C" NOT NULL,
    period       TEXT COLLATE "C" NOT NULL,
    exchanges    BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, period)
);
CREATE INDEX exchange_counts_by_period ON exchange_counts (period);
