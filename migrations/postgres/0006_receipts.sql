-- Read receipts: the latest of each kind a user has in a room, per thread, and the log of changes.
CREATE TABLE receipts (
    room_nid   BIGINT NOT NULL,
    user_nid   BIGINT NOT NULL,
    kind       BIGINT NOT NULL,    -- 1 m.read, 2 m.read.private
    thread     TEXT NOT NULL,       -- '' unthreaded, 'main', or the id of the thread's root
    event_id   TEXT NOT NULL,
    event_pos  BIGINT NOT NULL,    -- the event's position in the events stream
    ts         BIGINT NOT NULL,
    pos        BIGINT NOT NULL,    -- position in the receipts stream
    PRIMARY KEY (room_nid, user_nid, kind, thread)
);
CREATE INDEX receipts_room ON receipts (room_nid, pos);
