-- Versions side by side: which migration a process has to know to run on this database, and which each
-- of them knows. Processes from before this one say nothing: they know 0.
INSERT INTO cluster (key, value) VALUES ('schema_known_min', 19);
ALTER TABLE incarnations ADD COLUMN schema_known BIGINT NOT NULL DEFAULT 0;
