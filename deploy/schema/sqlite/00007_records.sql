-- +goose Up
-- Each exchange leaves a row here, and most of what that costs is the trees that the row
-- goes into: three are enough. Rows live in that of their primary key, and nothing looks
-- for an ID alone, which is unique by the way it is made.
CREATE TABLE exchange_records (
    batch        BIGINT NOT NULL,
    position     BIGINT NOT NULL,
    id           TEXT   NOT NULL,
    at           BIGINT NOT NULL,
    workspace_id TEXT   NOT NULL,
    key_id       TEXT   NOT NULL,
    owner_id     TEXT   NOT NULL,
    secret_id    TEXT   NOT NULL,
    action       TEXT   NOT NULL,
    outcome      TEXT   NOT NULL,
    address      TEXT   NOT NULL,
    agent        TEXT   NOT NULL,
    request_id   TEXT   NOT NULL,
    detail       TEXT   NOT NULL,
    count        BIGINT NOT NULL,
    PRIMARY KEY (batch, position)
) WITHOUT ROWID;
INSERT INTO exchange_records (batch, position, id, at, workspace_id, key_id, owner_id, secret_id, action, outcome, address, agent, request_id, detail, count)
    SELECT batch, position, id, at, workspace_id, key_id, owner_id, secret_id, action, outcome, address, agent, request_id, detail, count FROM exchange_events;
DROP TABLE exchange_events;
ALTER TABLE exchange_records RENAME TO exchange_events;
CREATE INDEX exchange_events_by_time ON exchange_events (workspace_id, at, id);
CREATE INDEX exchange_events_by_key ON exchange_events (key_id, at);
