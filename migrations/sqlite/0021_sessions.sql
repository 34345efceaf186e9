-- Sessions of user-interactive authentication belong to somebody: the user, or the address of who has none yet.
-- While a session holds a registration token, one use of that is pending.
ALTER TABLE uia_sessions ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE uia_sessions ADD COLUMN token TEXT NOT NULL DEFAULT '';
CREATE INDEX uia_sessions_owner ON uia_sessions (owner, created_ts);
CREATE INDEX uia_sessions_token ON uia_sessions (token, created_ts);

-- How often registration tokens led to an account.
CREATE TABLE registration_tokens (
    token     TEXT NOT NULL PRIMARY KEY,    -- digest of the token
    completed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Where users logged in: from there they still can when strangers guess at their passwords.
CREATE TABLE login_addresses (
    user_nid INTEGER NOT NULL,
    network  TEXT NOT NULL,                 -- an IPv4 address, or the first address of an IPv6 /64
    seen_ts  INTEGER NOT NULL,
    PRIMARY KEY (user_nid, network)
) STRICT, WITHOUT ROWID;

-- Which room replaces another: one for each tombstone there was when it was made (0: none).
CREATE TABLE room_successors (
    room_nid      INTEGER NOT NULL,
    tombstone_nid INTEGER NOT NULL,
    successor_nid INTEGER NOT NULL,
    PRIMARY KEY (room_nid, tombstone_nid)
) STRICT, WITHOUT ROWID;
