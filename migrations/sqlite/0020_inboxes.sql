-- What one owner may keep: how much waits in each inbox, and from whom. A message from before this counts
-- for nobody; an inbox without a row holds nothing that was counted.
ALTER TABLE to_device ADD COLUMN sender_nid INTEGER NOT NULL DEFAULT 0;
ALTER TABLE to_device ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX to_device_sender ON to_device (device_nid, sender_nid, bytes);

CREATE TABLE to_device_inboxes (
    device_nid INTEGER NOT NULL PRIMARY KEY,
    messages   INTEGER NOT NULL,
    bytes      INTEGER NOT NULL
) STRICT;

-- How much a version of a key backup holds, as of one etag of it: with another etag the row is old.
CREATE TABLE backup_sizes (
    user_nid INTEGER NOT NULL,
    version  INTEGER NOT NULL,
    etag     INTEGER NOT NULL,
    keys     INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    PRIMARY KEY (user_nid, version)
) STRICT, WITHOUT ROWID;
