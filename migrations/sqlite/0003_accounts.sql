-- Accounts of this server, their devices and everything that proves who somebody is.
CREATE TABLE accounts (
    user_nid    INTEGER NOT NULL PRIMARY KEY,
    password    TEXT,               -- PHC string; NULL: nobody can log in by password
    admin       INTEGER NOT NULL DEFAULT 0,
    deactivated INTEGER NOT NULL DEFAULT 0,
    erased      INTEGER NOT NULL DEFAULT 0,
    user_type   TEXT,               -- as given to the admin registration; NULL: an ordinary user
    created_ts  INTEGER NOT NULL
) STRICT;

CREATE TABLE devices (
    device_nid   INTEGER NOT NULL PRIMARY KEY,
    user_nid     INTEGER NOT NULL,
    device_id    TEXT NOT NULL,
    display_name TEXT,
    created_ts   INTEGER NOT NULL,
    last_seen_ts INTEGER,
    last_seen_ip TEXT,
    UNIQUE (user_nid, device_id)
) STRICT;

-- Tokens are stored as hashes: whoever reads the database cannot log in with it.
CREATE TABLE access_tokens (
    hash       BLOB NOT NULL PRIMARY KEY,
    device_nid INTEGER NOT NULL,
    expires_ts INTEGER,             -- NULL: never
    replaces   BLOB                 -- refresh token that dies when this token is first used
) STRICT, WITHOUT ROWID;
CREATE INDEX access_tokens_device ON access_tokens (device_nid);

CREATE TABLE refresh_tokens (
    hash       BLOB NOT NULL PRIMARY KEY,
    device_nid INTEGER NOT NULL,
    replaces   BLOB                 -- refresh token that dies when this token is first used
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_device ON refresh_tokens (device_nid);

CREATE TABLE login_tokens (
    hash       BLOB NOT NULL PRIMARY KEY,
    user_nid   INTEGER NOT NULL,
    expires_ts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE openid_tokens (
    hash       BLOB NOT NULL PRIMARY KEY,
    user_nid   INTEGER NOT NULL,
    expires_ts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- User-interactive authentication under way.
CREATE TABLE uia_sessions (
    session    TEXT NOT NULL PRIMARY KEY,
    action     TEXT NOT NULL,       -- digest of the request it was opened for
    user_nid   INTEGER NOT NULL,    -- 0: nobody yet (registration)
    completed  TEXT NOT NULL,       -- stages, separated by spaces
    created_ts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX uia_sessions_age ON uia_sessions (created_ts);
