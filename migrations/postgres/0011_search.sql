-- Which events have which words, for search. Filled by a follower of the events stream.
CREATE TABLE event_words (
    word      TEXT NOT NULL,        -- lower case
    room_nid  BIGINT NOT NULL,
    pos       BIGINT NOT NULL,
    field     BIGINT NOT NULL,     -- 0 body, 1 name, 2 topic
    event_nid BIGINT NOT NULL,
    PRIMARY KEY (word, room_nid, pos, field)
);
CREATE INDEX event_words_event ON event_words (event_nid);

-- How far those who follow the events stream have come.
CREATE TABLE followers (
    follower TEXT NOT NULL PRIMARY KEY,
    pos      BIGINT NOT NULL
);
