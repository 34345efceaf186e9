-- Rooms, events, state and membership.
CREATE TABLE rooms (
    room_nid   BIGINT NOT NULL PRIMARY KEY,
    room_id    TEXT NOT NULL UNIQUE,
    version    TEXT NOT NULL,
    slot       BIGINT NOT NULL,
    flags      BIGINT NOT NULL DEFAULT 0,
    created_ts BIGINT NOT NULL
);

CREATE TABLE events (
    event_nid    BIGINT NOT NULL PRIMARY KEY,
    room_nid     BIGINT NOT NULL,
    event_id     TEXT NOT NULL UNIQUE,
    type_nid     BIGINT NOT NULL,
    sender_nid   BIGINT NOT NULL,
    skey_nid     BIGINT,           -- NULL: not a state event
    depth        BIGINT NOT NULL,
    origin_ts    BIGINT NOT NULL,
    received_ts  BIGINT NOT NULL,
    flags        BIGINT NOT NULL,  -- outlier 1, rejected 2, soft-failed 4, redacted 8
    state_before BIGINT,           -- room_states.state_nid
    state_after  BIGINT,
    tl           BIGINT,           -- timeline key; NULL: not in the timeline
    prevs        BYTEA NOT NULL,     -- varint nids
    auths        BYTEA NOT NULL
);
CREATE UNIQUE INDEX events_timeline ON events (room_nid, tl) WHERE tl IS NOT NULL;
CREATE INDEX events_time ON events (room_nid, origin_ts) WHERE tl IS NOT NULL;

CREATE TABLE event_json (
    event_nid BIGINT NOT NULL PRIMARY KEY,
    codec     BIGINT NOT NULL,
    body      BYTEA NOT NULL         -- federation JSON without unsigned; codec 0: raw
);

-- The live events in the order in which they became visible, with what they mean to whoever has the
-- default push rules and is not named by the event (class 0).
CREATE TABLE event_stream (
    pos        BIGINT NOT NULL PRIMARY KEY,
    room_nid   BIGINT NOT NULL,
    event_nid  BIGINT NOT NULL UNIQUE,
    sender_nid BIGINT NOT NULL,
    action     BIGINT NOT NULL,    -- class 0: 0 nothing, 1 notify, 2 notify and highlight
    notif_seq  BIGINT NOT NULL,    -- cumulative notifying events of the room
    main_seq   BIGINT NOT NULL,    -- cumulative notifying events outside threads
    hl_seq     BIGINT NOT NULL,    -- cumulative highlights of the room
    thread_nid BIGINT,             -- root of the thread the event is in
    thread_seq BIGINT NOT NULL     -- cumulative notifying events of that thread; 0 outside
);
CREATE INDEX event_stream_room ON event_stream (room_nid, pos);
CREATE INDEX event_stream_thread ON event_stream (room_nid, thread_nid, pos) WHERE thread_nid IS NOT NULL;
-- A user's own notifying events, which do not count for him.
CREATE INDEX event_stream_own ON event_stream (sender_nid, room_nid, pos) WHERE action > 0;

-- What an event means to a user where that is not what it means to class 0.
CREATE TABLE push_exceptions (
    user_nid   BIGINT NOT NULL,
    room_nid   BIGINT NOT NULL,
    pos        BIGINT NOT NULL,
    event_nid  BIGINT NOT NULL,
    thread_nid BIGINT,
    action     BIGINT NOT NULL,    -- to this user: 0 nothing, 1 notify, 2 notify and highlight
    base       BIGINT NOT NULL,    -- to class 0
    PRIMARY KEY (user_nid, room_nid, pos)
);

CREATE TABLE redactions (
    target_event_id TEXT NOT NULL,
    redaction_nid   BIGINT NOT NULL,
    PRIMARY KEY (target_event_id, redaction_nid)
);

CREATE TABLE relations (
    parent_nid BIGINT NOT NULL,
    rel_type   TEXT NOT NULL,
    child_nid  BIGINT NOT NULL,
    type_nid   BIGINT NOT NULL,
    sender_nid BIGINT NOT NULL,
    key        TEXT,                -- the reaction, for m.annotation
    tl         BIGINT,
    PRIMARY KEY (parent_nid, rel_type, child_nid)
);
CREATE INDEX relations_child ON relations (child_nid);

CREATE TABLE threads (
    room_nid   BIGINT NOT NULL,
    root_nid   BIGINT NOT NULL,
    latest_nid BIGINT NOT NULL,
    latest_pos BIGINT NOT NULL,
    count      BIGINT NOT NULL,    -- replies; 0 when all of them were redacted
    notif_seq  BIGINT NOT NULL,    -- cumulative notifying events in the thread
    PRIMARY KEY (room_nid, root_nid)
);
CREATE INDEX threads_recent ON threads (room_nid, latest_pos);
CREATE TABLE thread_participants (
    root_nid BIGINT NOT NULL,
    user_nid BIGINT NOT NULL,
    PRIMARY KEY (root_nid, user_nid)
);

CREATE TABLE client_txns (
    device_nid BIGINT NOT NULL,
    scope      TEXT NOT NULL,       -- endpoint and room
    txn_id     TEXT NOT NULL,
    event_nid  BIGINT NOT NULL,
    ts         BIGINT NOT NULL,
    PRIMARY KEY (device_nid, scope, txn_id)
);
CREATE INDEX client_txns_event ON client_txns (event_nid);

CREATE TABLE room_states (
    state_nid BIGINT NOT NULL PRIMARY KEY,
    room_nid  BIGINT NOT NULL,
    digest    BYTEA NOT NULL,
    roots     BYTEA NOT NULL,        -- core root, member root, entry counts
    nodes     BYTEA NOT NULL
);
CREATE INDEX room_states_digest ON room_states (room_nid, digest);

CREATE TABLE room_heads (
    room_nid  BIGINT NOT NULL PRIMARY KEY,
    last_pos  BIGINT NOT NULL,
    last_tl   BIGINT NOT NULL,
    state_nid BIGINT NOT NULL,
    fwd       BYTEA NOT NULL,        -- forward extremities, varint nids
    depth     BIGINT NOT NULL,
    joined    BIGINT NOT NULL,
    invited   BIGINT NOT NULL,
    notif_seq BIGINT NOT NULL,
    main_seq  BIGINT NOT NULL,
    hl_seq    BIGINT NOT NULL
);

-- Current state as of a position: the row with the greatest pos not above it.
CREATE TABLE room_state_log (
    room_nid  BIGINT NOT NULL,
    pos       BIGINT NOT NULL,
    state_nid BIGINT NOT NULL,
    PRIMARY KEY (room_nid, pos)
);

CREATE TABLE room_members (
    room_nid     BIGINT NOT NULL,
    user_nid     BIGINT NOT NULL,
    membership   BIGINT NOT NULL,  -- 1 join, 2 invite, 3 knock, 4 leave, 5 ban
    event_nid    BIGINT NOT NULL,
    sender_nid   BIGINT NOT NULL,
    pos          BIGINT NOT NULL,
    forgotten    BIGINT NOT NULL DEFAULT 0,
    display_name TEXT,
    avatar_url   TEXT,
    PRIMARY KEY (room_nid, user_nid)
);
CREATE INDEX room_members_user ON room_members (user_nid, membership);
CREATE INDEX room_members_kind ON room_members (room_nid, membership, pos);

-- Every change of a user's membership, so that sync can tell what was at a position.
CREATE TABLE member_log (
    user_nid   BIGINT NOT NULL,
    pos        BIGINT NOT NULL,
    room_nid   BIGINT NOT NULL,
    membership BIGINT NOT NULL,
    event_nid  BIGINT NOT NULL,
    PRIMARY KEY (user_nid, pos)
);
CREATE INDEX member_log_room ON member_log (room_nid, pos);
CREATE INDEX member_log_user_room ON member_log (user_nid, room_nid, pos);

CREATE TABLE room_summary (
    room_nid        BIGINT NOT NULL PRIMARY KEY,
    name            TEXT,
    topic           TEXT,
    avatar_url      TEXT,
    canonical_alias TEXT,
    room_type       TEXT,
    join_rule       TEXT NOT NULL,
    history_visibility TEXT NOT NULL,
    guest_access    BIGINT NOT NULL,
    encryption      TEXT,
    successor       TEXT,
    joined          BIGINT NOT NULL,
    published       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX room_summary_published ON room_summary (published, joined);

CREATE TABLE room_aliases (
    alias       TEXT NOT NULL PRIMARY KEY,
    room_nid    BIGINT NOT NULL,
    creator_nid BIGINT NOT NULL
);
CREATE INDEX room_aliases_room ON room_aliases (room_nid);
