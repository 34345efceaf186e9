-- Counts the aliases that a user made.
CREATE INDEX room_aliases_creator ON room_aliases (creator_nid);
