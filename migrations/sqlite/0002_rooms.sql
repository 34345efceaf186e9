-- Rooms, events, state and membership.
CREATE TABLE rooms (
    room_nid   INTEGER NOT NULL PRIMARY KEY,
    room_id    TEXT NOT NULL UNIQUE,
    version    TEXT NOT NULL,
    slot       INTEGER NOT NULL,
    flags      INTEGER NOT NULL DEFAULT 0,
    created_ts INTEGER NOT NULL
) STRICT;

CREATE TABLE events (
    event_nid    INTEGER NOT NULL PRIMARY KEY,
    room_nid     INTEGER NOT NULL,
    event_id     TEXT NOT NULL UNIQUE,
    type_nid     INTEGER NOT NULL,
    sender_nid   INTEGER NOT NULL,
    skey_nid     INTEGER,           -- NULL: not a state event
    depth        INTEGER NOT NULL,
    origin_ts    INTEGER NOT NULL,
    received_ts  INTEGER NOT NULL,
    flags        INTEGER NOT NULL,  -- outlier 1, rejected 2, soft-failed 4, redacted 8
    state_before INTEGER,           -- room_states.state_nid
    state_after  INTEGER,
    tl           INTEGER,           -- timeline key; NULL: not in the timeline
    prevs        BLOB NOT NULL,     -- varint nids
    auths        BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_timeline ON events (room_nid, tl) WHERE tl IS NOT NULL;
CREATE INDEX events_time ON events (room_nid, origin_ts) WHERE tl IS NOT NULL;

CREATE TABLE event_json (
    event_nid INTEGER NOT NULL PRIMARY KEY,
    codec     INTEGER NOT NULL,
    body      BLOB NOT NULL         -- federation JSON without unsigned; codec 0: raw
) STRICT;

-- The live events in the order in which they became visible, with what they mean to whoever has the
-- default push rules and is not named by the event (class 0).
CREATE TABLE event_stream (
    pos        INTEGER NOT NULL PRIMARY KEY,
    room_nid   INTEGER NOT NULL,
    event_nid  INTEGER NOT NULL UNIQUE,
    sender_nid INTEGER NOT NULL,
    action     INTEGER NOT NULL,    -- class 0: 0 nothing, 1 notify, 2 notify and highlight
    notif_seq  INTEGER NOT NULL,    -- cumulative notifying events of the room
    main_seq   INTEGER NOT NULL,    -- cumulative notifying events outside threads
    hl_seq     INTEGER NOT NULL,    -- cumulative highlights of the room
    thread_nid INTEGER,             -- root of the thread the event is in
    thread_seq INTEGER NOT NULL     -- cumulative notifying events of that thread; 0 outside
) STRICT;
CREATE INDEX event_stream_room ON event_stream (room_nid, pos);
CREATE INDEX event_stream_thread ON event_stream (room_nid, thread_nid, pos) WHERE thread_nid IS NOT NULL;
-- A user's own notifying events, which do not count for him.
CREATE INDEX event_stream_own ON event_stream (sender_nid, room_nid, pos) WHERE action > 0;

-- What an event means to a user where that is not what it means to class 0.
CREATE TABLE push_exceptions (
    user_nid   INTEGER NOT NULL,
    room_nid   INTEGER NOT NULL,
    pos        INTEGER NOT NULL,
    event_nid  INTEGER NOT NULL,
    thread_nid INTEGER,
    action     INTEGER NOT NULL,    -- to this user: 0 nothing, 1 notify, 2 notify and highlight
    base       INTEGER NOT NULL,    -- to class 0
    PRIMARY KEY (user_nid, room_nid, pos)
) STRICT, WITHOUT ROWID;

CREATE TABLE redactions (
    target_event_id TEXT NOT NULL,
    redaction_nid   INTEGER NOT NULL,
    PRIMARY KEY (target_event_id, redaction_nid)
) STRICT, WITHOUT ROWID;

CREATE TABLE relations (
    parent_nid INTEGER NOT NULL,
    rel_type   TEXT NOT NULL,
    child_nid  INTEGER NOT NULL,
    type_nid   INTEGER NOT NULL,
    sender_nid INTEGER NOT NULL,
    key        TEXT,                -- the reaction, for m.annotation
    tl         INTEGER,
    PRIMARY KEY (parent_nid, rel_type, child_nid)
) STRICT, WITHOUT ROWID;
CREATE INDEX relations_child ON relations (child_nid);

CREATE TABLE threads (
    room_nid   INTEGER NOT NULL,
    root_nid   INTEGER NOT NULL,
    latest_nid INTEGER NOT NULL,
    latest_pos INTEGER NOT NULL,
    count      INTEGER NOT NULL,    -- replies; 0 when all of them were redacted
    notif_seq  INTEGER NOT NULL,    -- cumulative notifying events in the thread
    PRIMARY KEY (room_nid, root_nid)
) STRICT, WITHOUT ROWID;
CREATE INDEX threads_recent ON threads (room_nid, latest_pos);
CREATE TABLE thread_participants (
    root_nid INTEGER NOT NULL,
    user_nid INTEGER NOT NULL,
    PRIMARY KEY (root_nid, user_nid)
) STRICT, WITHOUT ROWID;

CREATE TABLE client_txns (
    device_nid INTEGER NOT NULL,
    scope      TEXT NOT NULL,       -- endpoint and room
    txn_id     TEXT NOT NULL,
    event_nid  INTEGER NOT NULL,
    ts         INTEGER NOT NULL,
    PRIMARY KEY (device_nid, scope, txn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX client_txns_event ON client_txns (event_nid);

CREATE TABLE room_states (
    state_nid INTEGER NOT NULL PRIMARY KEY,
    room_nid  INTEGER NOT NULL,
    digest    BLOB NOT NULL,
    roots     BLOB NOT NULL,        -- core root, member root, entry counts
    nodes     BLOB NOT NULL
) STRICT;
CREATE INDEX room_states_digest ON room_states (room_nid, digest);

CREATE TABLE room_heads (
    room_nid  INTEGER NOT NULL PRIMARY KEY,
    last_pos  INTEGER NOT NULL,
    last_tl   INTEGER NOT NULL,
    state_nid INTEGER NOT NULL,
    fwd       BLOB NOT NULL,        -- forward extremities, varint nids
    depth     INTEGER NOT NULL,
    joined    INTEGER NOT NULL,
    invited   INTEGER NOT NULL,
    notif_seq INTEGER NOT NULL,
    main_seq  INTEGER NOT NULL,
    hl_seq    INTEGER NOT NULL
) STRICT;

-- Current state as of a position: the row with the greatest pos not above it.
CREATE TABLE room_state_log (
    room_nid  INTEGER NOT NULL,
    pos       INTEGER NOT NULL,
    state_nid INTEGER NOT NULL,
    PRIMARY KEY (room_nid, pos)
) STRICT, WITHOUT ROWID;

CREATE TABLE room_members (
    room_nid     INTEGER NOT NULL,
    user_nid     INTEGER NOT NULL,
    membership   INTEGER NOT NULL,  -- 1 join, 2 invite, 3 knock, 4 leave, 5 ban
    event_nid    INTEGER NOT NULL,
    sender_nid   INTEGER NOT NULL,
    pos          INTEGER NOT NULL,
    forgotten    INTEGER NOT NULL DEFAULT 0,
    display_name TEXT,
    avatar_url   TEXT,
    PRIMARY KEY (room_nid, user_nid)
) STRICT, WITHOUT ROWID;
CREATE INDEX room_members_user ON room_members (user_nid, membership);
CREATE INDEX room_members_kind ON room_members (room_nid, membership, pos);

-- Every change of a user's membership, so that sync can tell what was at a position.
CREATE TABLE member_log (
    user_nid   INTEGER NOT NULL,
    pos        INTEGER NOT NULL,
    room_nid   INTEGER NOT NULL,
    membership INTEGER NOT NULL,
    event_nid  INTEGER NOT NULL,
    PRIMARY KEY (user_nid, pos)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_log_room ON member_log (room_nid, pos);
CREATE INDEX member_log_user_room ON member_log (user_nid, room_nid, pos);

CREATE TABLE room_summary (
    room_nid        INTEGER NOT NULL PRIMARY KEY,
    name            TEXT,
    topic           TEXT,
    avatar_url      TEXT,
    canonical_alias TEXT,
    room_type       TEXT,
    join_rule       TEXT NOT NULL,
    history_visibility TEXT NOT NULL,
    guest_access    INTEGER NOT NULL,
    encryption      TEXT,
    successor       TEXT,
    joined          INTEGER NOT NULL,
    published       INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX room_summary_published ON room_summary (published, joined);

CREATE TABLE room_aliases (
    alias       TEXT NOT NULL PRIMARY KEY,
    room_nid    INTEGER NOT NULL,
    creator_nid INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX room_aliases_room ON room_aliases (room_nid);
