-- What somebody asked for when a session of stages was opened, so that he need not say it again, and the user that
-- came of it, so that a repeated request has the same answer. Of a password it has the hash.
ALTER TABLE uia_sessions ADD COLUMN request TEXT NOT NULL DEFAULT '';
ALTER TABLE uia_sessions ADD COLUMN made TEXT NOT NULL DEFAULT '';
