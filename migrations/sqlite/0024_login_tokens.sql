-- A login token dies with the device that made it. 0: made by a process of an older version.
ALTER TABLE login_tokens ADD COLUMN device_nid INTEGER NOT NULL DEFAULT 0;
CREATE INDEX login_tokens_device ON login_tokens (device_nid);
