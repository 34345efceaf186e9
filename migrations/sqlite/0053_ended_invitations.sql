-- Ends of invitations and knocks of users of other servers, until those servers were told: they are not in the
-- room, so nothing else says what they lack.
CREATE TABLE destination_members (
    server TEXT NOT NULL,
    pos    INTEGER NOT NULL,   -- of the event that ends it
    PRIMARY KEY (server, pos)
) STRICT, WITHOUT ROWID;
