-- How far each pusher was told of the events stream (0: it is older than that is noted), and since when its
-- gateway has not taken what it is sent (milliseconds since 1970; 0: it takes it), and how many unread notifications it was told of.
ALTER TABLE pushers ADD COLUMN told_pos INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pushers ADD COLUMN failing_since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pushers ADD COLUMN told_unread INTEGER NOT NULL DEFAULT 0;

-- Up to where all pushers of a shard whose gateways take what they are sent were told.
CREATE TABLE push_positions (
    shard INTEGER NOT NULL PRIMARY KEY,
    pos   INTEGER NOT NULL
) STRICT;
