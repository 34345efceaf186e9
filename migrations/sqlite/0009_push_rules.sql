-- Whose push rules changed since a position, for whoever counts what is unread.
CREATE INDEX account_data_push_rules ON account_data (pos) WHERE type = 'm.push_rules';
