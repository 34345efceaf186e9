-- What users keep here: profiles, account data, filters, pushers, reports, and the index that finds
-- them by name.
CREATE TABLE profiles (
    user_nid INTEGER NOT NULL,
    field    TEXT NOT NULL,
    value    TEXT NOT NULL,         -- JSON
    PRIMARY KEY (user_nid, field)
) STRICT, WITHOUT ROWID;

CREATE TABLE account_data (
    user_nid INTEGER NOT NULL,
    room_nid INTEGER NOT NULL,      -- 0: not of a room
    type     TEXT NOT NULL,
    pos      INTEGER NOT NULL,
    body     TEXT NOT NULL,         -- JSON
    PRIMARY KEY (user_nid, room_nid, type)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_data_changes ON account_data (user_nid, pos);

CREATE TABLE filters (
    user_nid  INTEGER NOT NULL,
    filter_id INTEGER NOT NULL,
    digest    BLOB NOT NULL,        -- of the body: the same filter has one id
    body      TEXT NOT NULL,        -- JSON
    PRIMARY KEY (user_nid, filter_id),
    UNIQUE (user_nid, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE pushers (
    user_nid   INTEGER NOT NULL,
    app_id     TEXT NOT NULL,
    pushkey    TEXT NOT NULL,
    device_nid INTEGER NOT NULL,
    body       TEXT NOT NULL,       -- JSON
    created_ts INTEGER NOT NULL,
    PRIMARY KEY (user_nid, app_id, pushkey)
) STRICT, WITHOUT ROWID;
CREATE INDEX pushers_device ON pushers (device_nid);
CREATE INDEX pushers_key ON pushers (app_id, pushkey);

CREATE TABLE reports (
    report_nid   INTEGER PRIMARY KEY,
    reporter_nid INTEGER NOT NULL,
    ts           INTEGER NOT NULL,
    room_id      TEXT,
    event_id     TEXT,
    user_id      TEXT,
    reason       TEXT NOT NULL
) STRICT;

-- Words of user and display names, in small letters as bytes, so that both engines sort them alike.
CREATE TABLE user_words (
    word     BLOB NOT NULL,
    user_nid INTEGER NOT NULL,
    PRIMARY KEY (word, user_nid)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_words_user ON user_words (user_nid);
