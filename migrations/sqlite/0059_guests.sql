-- Guests: accounts without a password that may do little, until they are upgraded.
ALTER TABLE accounts ADD COLUMN guest INTEGER NOT NULL DEFAULT 0;
CREATE INDEX accounts_guests ON accounts (user_nid) WHERE guest = 1;
