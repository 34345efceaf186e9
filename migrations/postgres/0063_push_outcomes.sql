-- To whom else, or not, an event means something.
CREATE INDEX push_exceptions_pos ON push_exceptions (pos);
