-- What one owner may keep: how much waits in each inbox, and from whom. A message from before this counts
-- for nobody; an inbox without a row holds nothing that was counted.
ALTER TABLE to_device ADD COLUMN sender_nid BIGINT NOT NULL DEFAULT 0;
ALTER TABLE to_device ADD COLUMN bytes BIGINT NOT NULL DEFAULT 0;
CREATE INDEX to_device_sender ON to_device (device_nid, sender_nid, bytes);

CREATE TABLE to_device_inboxes (
    device_nid BIGINT NOT NULL PRIMARY KEY,
    messages   BIGINT NOT NULL,
    bytes      BIGINT NOT NULL
);

-- How much a version of a key backup holds, as of one etag of it: with another etag the row is old.
CREATE TABLE backup_sizes (
    user_nid BIGINT NOT NULL,
    version  BIGINT NOT NULL,
    etag     BIGINT NOT NULL,
    keys     BIGINT NOT NULL,
    bytes    BIGINT NOT NULL,
    PRIMARY KEY (user_nid, version)
);
