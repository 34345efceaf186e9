-- When each chore of a deployment was done last. Many processes take turns: whoever takes one over knows
-- whether it is due.
CREATE TABLE chores (
    chore   TEXT NOT NULL PRIMARY KEY,
    done_ts INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
