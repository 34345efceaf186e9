-- Messages to devices that other servers sent: each is put into inboxes once.
CREATE TABLE inbound_messages (
    origin      TEXT NOT NULL,
    message_id  TEXT NOT NULL,
    received_ts BIGINT NOT NULL,
    PRIMARY KEY (origin, message_id)
);
CREATE INDEX inbound_messages_time ON inbound_messages (received_ts);

-- When a message to devices of another server was put: one that is never delivered is given up.
ALTER TABLE destination_outbox ADD COLUMN ts BIGINT NOT NULL DEFAULT 0;
CREATE INDEX destination_outbox_time ON destination_outbox (ts);
