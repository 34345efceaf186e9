-- How many transactions each writer committed, written by each of them as its last statement: after
-- a commit whose answer was lost, the count says whether it happened.
CREATE TABLE writers (
    writer  BIGINT NOT NULL PRIMARY KEY,
    commits BIGINT NOT NULL,
    day     BIGINT NOT NULL        -- of the last commit, counted from 1970
) WITH (fillfactor = 20);
-- These rows change with every commit: room for their next versions keeps them on one page.
ALTER TABLE stream_positions SET (fillfactor = 20);
