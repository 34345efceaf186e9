-- What an administrator keeps a user from: everything but logging out, or whatever others notice.
ALTER TABLE accounts ADD COLUMN locked BIGINT NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN suspended BIGINT NOT NULL DEFAULT 0;
