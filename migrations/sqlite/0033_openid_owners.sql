-- Finds the oldest OpenID tokens of a user.
CREATE INDEX openid_tokens_user ON openid_tokens (user_nid, expires_ts);
