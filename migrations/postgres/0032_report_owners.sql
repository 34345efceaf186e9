-- Finds the oldest reports of a reporter.
CREATE INDEX reports_reporter ON reports (reporter_nid, report_nid);
