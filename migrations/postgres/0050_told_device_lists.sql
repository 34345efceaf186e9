-- What other servers are told of changed keys: which device (NULL: the user's cross-signing keys), and the change of a
-- device of the same user before it, by which they see whether they missed one.
ALTER TABLE device_changes ADD COLUMN device_id TEXT;
ALTER TABLE device_changes ADD COLUMN prev_pos BIGINT;

-- The last change of a device of each user.
CREATE TABLE device_list_heads (
    user_nid BIGINT NOT NULL PRIMARY KEY,
    pos      BIGINT NOT NULL
);
