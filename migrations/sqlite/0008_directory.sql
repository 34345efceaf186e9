-- The room directory: published rooms in the order they are listed.
DROP INDEX room_summary_published;
CREATE INDEX room_summary_directory ON room_summary (joined, room_nid) WHERE published = 1;
