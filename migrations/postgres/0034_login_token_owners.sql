-- Finds the oldest login tokens of a user.
CREATE INDEX login_tokens_user ON login_tokens (user_nid, expires_ts);
