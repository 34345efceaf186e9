-- Events that notified, and were redacted since: they are not unread any more.
CREATE TABLE redacted_notifications (
    room_nid   BIGINT NOT NULL,
    pos        BIGINT NOT NULL,
    thread_nid BIGINT,
    action     BIGINT NOT NULL,    -- to class 0: 1 notify, 2 notify and highlight
    PRIMARY KEY (room_nid, pos)
);
