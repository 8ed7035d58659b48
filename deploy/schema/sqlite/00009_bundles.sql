-- +goose Up
-- Exchanges of a key come in numbers, so those of a batch that are alike, and within one
-- minute, are one row: what an exchange costs the server is then a text and not three
-- places in trees. records is a JSON array of [position, at, id, secret_id, address, agent,
-- request_id, detail, count], since_at and until_at are the first and the last at.
CREATE TABLE exchange_bundles (
    batch        BIGINT NOT NULL,
    bundle       BIGINT NOT NULL,
    workspace_id TEXT   NOT NULL,
    key_id       TEXT   NOT NULL,
    owner_id     TEXT   NOT NULL,
    action       TEXT   NOT NULL,
    outcome      TEXT   NOT NULL,
    since_at     BIGINT NOT NULL,
    until_at     BIGINT NOT NULL,
    count        BIGINT NOT NULL,
    records      TEXT   NOT NULL,
    PRIMARY KEY (batch, bundle)
);
INSERT INTO exchange_bundles (batch, bundle, workspace_id, key_id, owner_id, action, outcome, since_at, until_at, count, records)
    SELECT batch, MIN(position), workspace_id, key_id, owner_id, action, outcome, MIN(at), MAX(at), SUM(count),
        json_group_array(json_array(position, at, id, secret_id, address, agent, request_id, detail, count))
    FROM exchange_events GROUP BY batch, workspace_id, key_id, owner_id, action, outcome, at / 60000000;
DROP TABLE exchange_events;
CREATE INDEX exchange_bundles_by_time ON exchange_bundles (workspace_id, until_at);
CREATE INDEX exchange_bundles_by_key ON exchange_bundles (key_id, until_at);

-- For whoever asks in SQL, and for binaries of the release before, which write here.
CREATE VIEW exchange_events (batch, position, id, at, workspace_id, key_id, owner_id, secret_id, action, outcome, address, agent, request_id, detail, count) AS
    SELECT b.batch, r.value ->> 0, r.value ->> 2, r.value ->> 1, b.workspace_id, b.key_id, b.owner_id, r.value ->> 3, b.action, b.outcome,
        r.value ->> 4, r.value ->> 5, r.value ->> 6, r.value ->> 7, r.value ->> 8
    FROM exchange_bundles b, json_each(b.records) r;
-- +goose StatementBegin
CREATE TRIGGER exchange_events_insert INSTEAD OF INSERT ON exchange_events BEGIN
    INSERT INTO exchange_bundles (batch, bundle, workspace_id, key_id, owner_id, action, outcome, since_at, until_at, count, records)
    VALUES (NEW.batch, NEW.position, NEW.workspace_id, NEW.key_id, NEW.owner_id, NEW.action, NEW.outcome, NEW.at, NEW.at, NEW.count,
        json_array(json_array(NEW.position, NEW.at, NEW.id, NEW.secret_id, NEW.address, NEW.agent, NEW.request_id, NEW.detail, NEW.count)));
END;
-- +goose StatementEnd
-- They remove whole batches; the bundles go of which a row is removed.
-- +goose StatementBegin
CREATE TRIGGER exchange_events_delete INSTEAD OF DELETE ON exchange_events BEGIN
    DELETE FROM exchange_bundles WHERE batch = OLD.batch AND workspace_id = OLD.workspace_id AND key_id = OLD.key_id
        AND action = OLD.action AND outcome = OLD.outcome AND OLD.at BETWEEN since_at AND until_at;
END;
-- +goose StatementEnd
UPDATE schema_window SET oldest = 8;
