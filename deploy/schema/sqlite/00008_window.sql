-- +goose Up
-- Binaries that know at least this version of the schema work with it as it is, so that
-- those of the release before go on, and can come back, while servers are replaced. A
-- migration that takes away or renames what they need raises it to its own number.
CREATE TABLE schema_window (
    oldest BIGINT NOT NULL
);
INSERT INTO schema_window (oldest) VALUES (8);
