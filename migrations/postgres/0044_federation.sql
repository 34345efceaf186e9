-- Other servers that could not be reached: since when, when they are tried again, and the pause that was
-- doubled last. All processes keep to it. A server that is reached has zeros, or no row.
CREATE TABLE destinations (
    server_name   TEXT NOT NULL PRIMARY KEY,
    failing_since BIGINT NOT NULL,
    retry_at      BIGINT NOT NULL,
    pause_ms      BIGINT NOT NULL
);

-- Signing keys of other servers. What one was signed with may be looked at for ever, so no key is dropped:
-- `valid_until_ts` is until when it was valid by the newest word of it, 0 for ever.
CREATE TABLE server_keys (
    server_name    TEXT NOT NULL,
    key_id         TEXT NOT NULL,
    public_key     BYTEA NOT NULL,
    valid_until_ts BIGINT NOT NULL,
    PRIMARY KEY (server_name, key_id)
);

-- The newest answer in which a server published its keys, as it signed it: what a notary hands on.
CREATE TABLE server_key_answers (
    server_name    TEXT NOT NULL PRIMARY KEY,
    answer         BYTEA NOT NULL,
    fetched_ts     BIGINT NOT NULL,
    valid_until_ts BIGINT NOT NULL
);

-- Keys that this server signed with before, and until when.
CREATE TABLE retired_signing_keys (
    key_id     TEXT NOT NULL PRIMARY KEY,
    public_key BYTEA NOT NULL,
    expired_ts BIGINT NOT NULL
);
