-- Files of other servers that are kept here for a while. Their bytes lie on disk under a name that is drawn for
-- each, and shared with nothing else.
CREATE TABLE remote_media (
    server         TEXT NOT NULL,
    media_id       TEXT NOT NULL,
    file           BLOB NOT NULL,   -- 32 bytes: the name on disk
    bytes          INTEGER NOT NULL,
    content_type   TEXT,
    file_name      TEXT,
    fetched_ts     INTEGER NOT NULL,
    used_ts        INTEGER NOT NULL,
    quarantined_ts INTEGER,            -- since when it is shown to nobody, and not fetched again
    PRIMARY KEY (server, media_id)
) STRICT, WITHOUT ROWID;
-- Which was not asked for the longest.
CREATE INDEX remote_media_used ON remote_media (used_ts) WHERE quarantined_ts IS NULL;
CREATE UNIQUE INDEX remote_media_file ON remote_media (file);

-- How many bytes they have together: one row, or none yet.
CREATE TABLE remote_media_size (
    id    INTEGER NOT NULL PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT;
