-- Whom the rows between two positions concern: what a process reads when it missed a message.
CREATE INDEX receipts_pos ON receipts (pos);
CREATE INDEX account_data_pos ON account_data (pos);
CREATE INDEX redactions_redaction ON redactions (redaction_nid);
