-- Who owns what when many processes share this database. Empty while there is only one.

-- One run of one process: never used again once it is fenced.
CREATE TABLE incarnations (
    inc_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT NOT NULL,    -- what the operator calls the process
    pool         TEXT NOT NULL,
    address      TEXT NOT NULL,    -- where others reach it
    state        INTEGER NOT NULL,  -- 1 live, 2 draining, 3 fenced
    started_ts   INTEGER NOT NULL,
    heartbeat_ts INTEGER NOT NULL   -- by the clock of the database
) STRICT;

-- The incarnation that may write to what falls into a slot.
CREATE TABLE pool_slots (
    pool      TEXT NOT NULL,
    slot      INTEGER NOT NULL,     -- 0 to 1023
    owner_inc INTEGER NOT NULL,
    PRIMARY KEY (pool, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX pool_slots_owner ON pool_slots (owner_inc);

-- Numbers of the cluster as a whole; the epoch counts the changes of pool_slots.
CREATE TABLE cluster (
    key   TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO cluster (key, value) VALUES ('epoch', 0);
