-- What every other table leans on: settings, stream positions, id blocks, interned names.
CREATE TABLE settings (
    key   TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- The counter of each stream. A writer holds its row until COMMIT, so position order is commit order.
CREATE TABLE stream_positions (
    stream INTEGER NOT NULL PRIMARY KEY,
    pos    INTEGER NOT NULL
) STRICT;
INSERT INTO stream_positions (stream, pos) VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (7, 0);

CREATE TABLE nid_blocks (
    name TEXT NOT NULL PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    user_nid INTEGER PRIMARY KEY,
    user_id  TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE event_types (
    type_nid INTEGER PRIMARY KEY,
    type     TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE state_keys (
    skey_nid  INTEGER PRIMARY KEY,
    type      TEXT NOT NULL,
    state_key TEXT NOT NULL,
    UNIQUE (type, state_key)
) STRICT;
