-- End-to-end encryption: keys of devices and users, messages to devices, key backup.

-- Who has to look at whose keys again.
CREATE TABLE device_changes (
    pos        BIGINT NOT NULL PRIMARY KEY,
    user_nid   BIGINT NOT NULL,    -- whose keys changed
    viewer_nid BIGINT              -- the only user who is told; NULL: everybody who shares a room
);
CREATE INDEX device_changes_user ON device_changes (user_nid, pos);

CREATE TABLE device_keys (
    device_nid BIGINT NOT NULL PRIMARY KEY,
    user_nid   BIGINT NOT NULL,
    device_id  TEXT NOT NULL,
    keys       TEXT NOT NULL,       -- canonical JSON as uploaded, without unsigned
    UNIQUE (user_nid, device_id)
);

-- Unclaimed keys; given out by ascending upload, each once.
CREATE TABLE one_time_keys (
    device_nid BIGINT NOT NULL,
    algorithm  TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    upload     BIGINT NOT NULL,    -- which upload of the device brought it
    key        TEXT NOT NULL,
    PRIMARY KEY (device_nid, algorithm, key_id)
);
CREATE INDEX one_time_keys_order ON one_time_keys (device_nid, algorithm, upload, key_id);

-- The last keys given out, so that an id cannot come back with another key behind it.
CREATE TABLE issued_keys (
    device_nid BIGINT NOT NULL,
    algorithm  TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    issue      BIGINT NOT NULL,    -- counts up per device
    key        TEXT NOT NULL,
    PRIMARY KEY (device_nid, algorithm, key_id)
);
CREATE INDEX issued_keys_order ON issued_keys (device_nid, issue);

CREATE TABLE fallback_keys (
    device_nid BIGINT NOT NULL,
    algorithm  TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    key        TEXT NOT NULL,
    used       BIGINT NOT NULL,    -- 1: given out at least once
    PRIMARY KEY (device_nid, algorithm)
);

CREATE TABLE cross_signing_keys (
    user_nid   BIGINT NOT NULL,
    usage      BIGINT NOT NULL,    -- 1 master, 2 self-signing, 3 user-signing
    public_key TEXT NOT NULL,       -- unpadded base64
    key        TEXT NOT NULL,       -- canonical JSON as uploaded
    PRIMARY KEY (user_nid, usage)
);

-- Signatures uploaded after the key they are on.
CREATE TABLE key_signatures (
    target_nid BIGINT NOT NULL,
    target_key TEXT NOT NULL,       -- a device id or a public master key
    signer_nid BIGINT NOT NULL,
    signer_key TEXT NOT NULL,       -- ed25519:…
    signature  TEXT NOT NULL,
    PRIMARY KEY (target_nid, target_key, signer_nid, signer_key)
);
CREATE INDEX key_signatures_signer ON key_signatures (signer_nid, signer_key);

-- The inbox of each device, until the device has presented a sync token past the message.
CREATE TABLE to_device (
    pos        BIGINT NOT NULL PRIMARY KEY,
    device_nid BIGINT NOT NULL,
    message    TEXT NOT NULL        -- {"content":…,"sender":…,"type":…}
);
CREATE INDEX to_device_inbox ON to_device (device_nid, pos);

CREATE TABLE to_device_txns (
    device_nid BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    txn_id     TEXT NOT NULL,
    ts         BIGINT NOT NULL,
    PRIMARY KEY (device_nid, event_type, txn_id)
);
CREATE INDEX to_device_txns_age ON to_device_txns (device_nid, ts);

CREATE TABLE backup_versions (
    user_nid  BIGINT NOT NULL,
    version   BIGINT NOT NULL,
    algorithm TEXT NOT NULL,
    auth_data TEXT NOT NULL,
    etag      BIGINT NOT NULL,     -- counts the changes of its keys
    deleted   BIGINT NOT NULL,     -- 1: kept so that its number is not used again
    PRIMARY KEY (user_nid, version)
);

CREATE TABLE backup_keys (
    user_nid            BIGINT NOT NULL,
    version             BIGINT NOT NULL,
    room_id             TEXT NOT NULL,
    session_id          TEXT NOT NULL,
    first_message_index BIGINT NOT NULL,
    forwarded_count     BIGINT NOT NULL,
    is_verified         BIGINT NOT NULL,
    session_data        TEXT NOT NULL,
    PRIMARY KEY (user_nid, version, room_id, session_id)
);

-- Membership changes by position alone: "did anybody join or leave anything since?" is one probe.
CREATE INDEX member_log_pos ON member_log (pos);
