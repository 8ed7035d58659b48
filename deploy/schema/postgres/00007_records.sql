-- +goose Up
-- Each exchange leaves a row here, and most of what that costs is its indexes. Nothing
-- looks for an ID alone, which is unique by the way it is made.
ALTER TABLE exchange_events DROP CONSTRAINT exchange_events_id_key;
