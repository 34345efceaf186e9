-- Which events have which words, for search. Filled by a follower of the events stream.
CREATE TABLE event_words (
    word      TEXT NOT NULL,        -- lower case
    room_nid  INTEGER NOT NULL,
    pos       INTEGER NOT NULL,
    field     INTEGER NOT NULL,     -- 0 body, 1 name, 2 topic
    event_nid INTEGER NOT NULL,
    PRIMARY KEY (word, room_nid, pos, field)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_words_event ON event_words (event_nid);

-- How far those who follow the events stream have come.
CREATE TABLE followers (
    follower TEXT NOT NULL PRIMARY KEY,
    pos      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
