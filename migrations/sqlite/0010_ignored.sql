-- Whose list of ignored users changed since a position, for whoever counts what is unread.
CREATE INDEX account_data_ignored ON account_data (pos) WHERE type = 'm.ignored_user_list';
