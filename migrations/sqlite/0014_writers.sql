-- Used on PostgreSQL, where the answer to a COMMIT can be lost on its way; see there.
CREATE TABLE writers (
    writer  INTEGER NOT NULL PRIMARY KEY,
    commits INTEGER NOT NULL,
    day     INTEGER NOT NULL
) STRICT;
