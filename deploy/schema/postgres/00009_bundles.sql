-- +goose Up
-- Exchanges of a key come in numbers, so those of a batch that are alike, and within one
-- minute, are one row: what an exchange costs the server is then a text and not three
-- places in trees. records is a JSON array of [position, at, id, secret_id, address, agent,
-- request_id, detail, count], since_at and until_at are the first and the last at.
CREATE TABLE exchange_bundles (
    batch        BIGINT NOT NULL,
    bundle       BIGINT NOT NULL,
    workspace_id TEXT COLLATE "C" NOT NULL,
    key_id       TEXT COLLATE "C" NOT NULL,
    owner_id     TEXT COLLATE "C" NOT NULL,
    action       TEXT COLLATE "C" NOT NULL,
    outcome      TEXT COLLATE "C" NOT NULL,
    since_at     BIGINT NOT NULL,
    until_at     BIGINT NOT NULL,
    count        BIGINT NOT NULL,
    records      TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (batch, bundle)
);
INSERT INTO exchange_bundles (batch, bundle, workspace_id, key_id, owner_id, action, outcome, since_at, until_at, count, records)
    SELECT batch, MIN(position), workspace_id, key_id, owner_id, action, outcome, MIN(at), MAX(at), SUM(count),
        json_agg(json_build_array(position, at, id, secret_id, address, agent, request_id, detail, count))
    FROM exchange_events GROUP BY batch, workspace_id, key_id, owner_id, action, outcome, at / 60000000;
-- Servers of the release before have written and removed meanwhile. They wait from here on,
-- and what they write then goes through the view.
LOCK TABLE exchange_events IN ACCESS EXCLUSIVE MODE;
INSERT INTO exchange_bundles (batch, bundle, workspace_id, key_id, owner_id, action, outcome, since_at, until_at, count, records)
    SELECT batch, MIN(position), workspace_id, key_id, owner_id, action, outcome, MIN(at), MAX(at), SUM(count),
        json_agg(json_build_array(position, at, id, secret_id, address, agent, request_id, detail, count))
    FROM exchange_events e WHERE NOT EXISTS (SELECT FROM exchange_bundles b WHERE b.batch = e.batch)
    GROUP BY batch, workspace_id, key_id, owner_id, action, outcome, at / 60000000;
DELETE FROM exchange_bundles b WHERE NOT EXISTS (SELECT FROM exchange_events e WHERE e.batch = b.batch);
DROP TABLE exchange_events;
CREATE INDEX exchange_bundles_by_time ON exchange_bundles (workspace_id, until_at);
CREATE INDEX exchange_bundles_by_key ON exchange_bundles (key_id, until_at);

-- For whoever asks in SQL, and for binaries of the release before, which write here.
CREATE VIEW exchange_events (batch, position, id, at, workspace_id, key_id, owner_id, secret_id, action, outcome, address, agent, request_id, detail, count) AS
    SELECT b.batch, (r.value ->> 0)::bigint, (r.value ->> 2) COLLATE "C", (r.value ->> 1)::bigint, b.workspace_id, b.key_id, b.owner_id,
        (r.value ->> 3) COLLATE "C", b.action, b.outcome, (r.value ->> 4) COLLATE "C", (r.value ->> 5) COLLATE "C",
        (r.value ->> 6) COLLATE "C", (r.value ->> 7) COLLATE "C", (r.value ->> 8)::bigint
    FROM exchange_bundles b CROSS JOIN LATERAL json_array_elements(b.records::json) AS r (value);
-- They remove whole batches; the bundles go of which a row is removed.
-- +goose StatementBegin
CREATE FUNCTION exchange_events_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM exchange_bundles WHERE batch = OLD.batch AND workspace_id = OLD.workspace_id AND key_id = OLD.key_id
            AND action = OLD.action AND outcome = OLD.outcome AND OLD.at BETWEEN since_at AND until_at;
        RETURN OLD;
    END IF;
    INSERT INTO exchange_bundles (batch, bundle, workspace_id, key_id, owner_id, action, outcome, since_at, until_at, count, records)
    VALUES (NEW.batch, NEW.position, NEW.workspace_id, NEW.key_id, NEW.owner_id, NEW.action, NEW.outcome, NEW.at, NEW.at, NEW.count,
        json_build_array(json_build_array(NEW.position, NEW.at, NEW.id, NEW.secret_id, NEW.address, NEW.agent, NEW.request_id, NEW.detail, NEW.count)));
    RETURN NEW;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER exchange_events_change INSTEAD OF INSERT OR DELETE ON exchange_events
    FOR EACH ROW EXECUTE FUNCTION exchange_events_change();
UPDATE schema_window SET oldest = 8;
