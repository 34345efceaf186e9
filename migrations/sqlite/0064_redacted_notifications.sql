-- Events that notified, and were redacted since: they are not unread any more.
CREATE TABLE redacted_notifications (
    room_nid   INTEGER NOT NULL,
    pos        INTEGER NOT NULL,
    thread_nid INTEGER,
    action     INTEGER NOT NULL,    -- to class 0: 1 notify, 2 notify and highlight
    PRIMARY KEY (room_nid, pos)
) STRICT, WITHOUT ROWID;
