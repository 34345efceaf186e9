-- Accounts of this server, their devices and everything that proves who somebody is.
CREATE TABLE accounts (
    user_nid    BIGINT NOT NULL PRIMARY KEY,
    password    TEXT,               -- PHC string; NULL: nobody can log in by password
    admin       BIGINT NOT NULL DEFAULT 0,
    deactivated BIGINT NOT NULL DEFAULT 0,
    erased      BIGINT NOT NULL DEFAULT 0,
    user_type   TEXT,               -- as given to the admin registration; NULL: an ordinary user
    created_ts  BIGINT NOT NULL
);

CREATE TABLE devices (
    device_nid   BIGINT NOT NULL PRIMARY KEY,
    user_nid     BIGINT NOT NULL,
    device_id    TEXT NOT NULL,
    display_name TEXT,
    created_ts   BIGINT NOT NULL,
    last_seen_ts BIGINT,
    last_seen_ip TEXT,
    UNIQUE (user_nid, device_id)
);

-- Tokens are stored as hashes: whoever reads the database cannot log in with it.
CREATE TABLE access_tokens (
    hash       BYTEA NOT NULL PRIMARY KEY,
    device_nid BIGINT NOT NULL,
    expires_ts BIGINT,             -- NULL: never
    replaces   BYTEA                 -- refresh token that dies when this token is first used
);
CREATE INDEX access_tokens_device ON access_tokens (device_nid);

CREATE TABLE refresh_tokens (
    hash       BYTEA NOT NULL PRIMARY KEY,
    device_nid BIGINT NOT NULL,
    replaces   BYTEA                 -- refresh token that dies when this token is first used
);
CREATE INDEX refresh_tokens_device ON refresh_tokens (device_nid);

CREATE TABLE login_tokens (
    hash       BYTEA NOT NULL PRIMARY KEY,
    user_nid   BIGINT NOT NULL,
    expires_ts BIGINT NOT NULL
);

CREATE TABLE openid_tokens (
    hash       BYTEA NOT NULL PRIMARY KEY,
    user_nid   BIGINT NOT NULL,
    expires_ts BIGINT NOT NULL
);

-- User-interactive authentication under way.
CREATE TABLE uia_sessions (
    session    TEXT NOT NULL PRIMARY KEY,
    action     TEXT NOT NULL,       -- digest of the request it was opened for
    user_nid   BIGINT NOT NULL,    -- 0: nobody yet (registration)
    completed  TEXT NOT NULL,       -- stages, separated by spaces
    created_ts BIGINT NOT NULL
);
CREATE INDEX uia_sessions_age ON uia_sessions (created_ts);
