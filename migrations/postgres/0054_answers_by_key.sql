-- The best answer that names a key of another server, as that signed it: it may name keys that the newest answer
-- (server_key_answers) does not. 16 for each server at most.
CREATE TABLE server_key_answers_by_key (
    server_name    TEXT NOT NULL,
    key_id         TEXT NOT NULL,
    answer         BYTEA NOT NULL,
    fetched_ts     BIGINT NOT NULL,
    valid_until_ts BIGINT NOT NULL,
    PRIMARY KEY (server_name, key_id)
);
