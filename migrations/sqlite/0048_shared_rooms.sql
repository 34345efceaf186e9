-- Rooms that live on several servers.

-- The servers that have, or had, members in a room beside this one.
CREATE TABLE room_servers (
    room_nid INTEGER NOT NULL,
    server   TEXT NOT NULL,
    joined   INTEGER NOT NULL,      -- its joined members
    left_pos INTEGER,               -- when the last of them left; NULL while there are some
    PRIMARY KEY (room_nid, server)
) STRICT, WITHOUT ROWID;
CREATE INDEX room_servers_server ON room_servers (server, room_nid);

-- Events that known ones follow and that are not known here: where history is missing.
CREATE TABLE missing_prevs (
    room_nid      INTEGER NOT NULL,
    prev_event_id TEXT NOT NULL,
    child_nid     INTEGER NOT NULL,
    PRIMARY KEY (room_nid, prev_event_id, child_nid)
) STRICT, WITHOUT ROWID;

-- What another server showed of a room with an invitation or in answer to a knock.
CREATE TABLE invite_states (
    room_nid INTEGER NOT NULL,
    user_nid INTEGER NOT NULL,
    body     BLOB NOT NULL,         -- a JSON array of stripped state events
    PRIMARY KEY (room_nid, user_nid)
) STRICT, WITHOUT ROWID;

-- Transactions of other servers, and what they were answered.
CREATE TABLE inbound_transactions (
    origin      TEXT NOT NULL,
    txn_id      TEXT NOT NULL,
    received_ts INTEGER NOT NULL,
    answer      BLOB NOT NULL,
    PRIMARY KEY (origin, txn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbound_transactions_time ON inbound_transactions (received_ts);

-- How far each destination has been told of the streams: everything after it is still to be sent.
CREATE TABLE destination_positions (
    server TEXT NOT NULL,
    stream INTEGER NOT NULL,
    pos    INTEGER NOT NULL,
    PRIMARY KEY (server, stream)
) STRICT, WITHOUT ROWID;

-- Messages to devices of other servers, until they are delivered.
CREATE TABLE destination_outbox (
    seq    INTEGER NOT NULL PRIMARY KEY,
    server TEXT NOT NULL,
    body   BLOB NOT NULL
) STRICT;
CREATE INDEX destination_outbox_server ON destination_outbox (server, seq);
