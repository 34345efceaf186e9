-- The epoch at which a slot came to its owner. Whoever lost a slot and got it back holds another one,
-- and so notices that somebody else may have written meanwhile.
ALTER TABLE pool_slots ADD COLUMN since BIGINT NOT NULL DEFAULT 0;
