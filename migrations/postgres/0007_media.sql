-- Uploaded files: what was uploaded under which id. The bytes lie on disk by their hash, so that
-- the same file uploaded twice is stored once.
CREATE TABLE media (
    media_id     TEXT NOT NULL PRIMARY KEY,
    uploader_nid BIGINT NOT NULL,
    hash         BYTEA,               -- NULL: created, nothing uploaded yet
    bytes        BIGINT NOT NULL,
    content_type TEXT,
    file_name    TEXT,
    created_ts   BIGINT NOT NULL,
    expires_ts   BIGINT             -- when an id without content is forgotten
);
CREATE INDEX media_pending ON media (uploader_nid, expires_ts) WHERE hash IS NULL;
CREATE INDEX media_hash ON media (hash) WHERE hash IS NOT NULL;
