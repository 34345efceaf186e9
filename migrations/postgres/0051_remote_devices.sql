-- Device lists of users of other servers who share a room with somebody here, as far as they were asked for.
CREATE TABLE remote_device_lists (
    user_nid   BIGINT NOT NULL PRIMARY KEY,
    stream_id  BIGINT NOT NULL,     -- the last change in it, by its server's count
    is_stale   BIGINT NOT NULL,     -- 1: changes may be missing
    generation BIGINT NOT NULL      -- counts what makes an answer under way worthless
);

CREATE TABLE remote_devices (
    user_nid     BIGINT NOT NULL,
    device_id    TEXT NOT NULL,
    display_name TEXT,
    keys         TEXT,          -- JSON as its server sent it; NULL: it has none
    PRIMARY KEY (user_nid, device_id)
);
