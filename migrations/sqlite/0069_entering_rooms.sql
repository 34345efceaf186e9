-- Rooms of other servers that a user of this one is being let into, a row for each attempt. Other servers may send
-- what happens there before the answer with the room's state has been read.
CREATE TABLE entering_rooms (
    room_nid   INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,   -- drawn for each
    started_ts INTEGER NOT NULL,
    held       INTEGER NOT NULL,   -- how many events were put aside meanwhile
    PRIMARY KEY (room_nid, attempt)
) STRICT, WITHOUT ROWID;
CREATE INDEX entering_rooms_started ON entering_rooms (started_ts);

-- What other servers sent meanwhile, until the room is entered.
CREATE TABLE early_events (
    room_nid    INTEGER NOT NULL,
    origin      TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    place       INTEGER NOT NULL,   -- its place among those of its origin
    received_ts INTEGER NOT NULL,
    pdu         TEXT NOT NULL,
    PRIMARY KEY (room_nid, origin, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX early_events_received ON early_events (received_ts);
