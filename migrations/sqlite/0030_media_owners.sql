-- Counts the files of a user at each upload.
CREATE INDEX media_uploader ON media (uploader_nid, bytes);
