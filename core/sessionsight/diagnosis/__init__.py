"""Diagnosis of a client: configuration checks, test events, and the ledger as a table. Never shows a key."""

from sessionsight.diagnosis.configuration import check
from sessionsight.diagnosis.findings import Finding, has_errors, report_lines
from sessionsight.diagnosis.stats_table import stats_lines
from sessionsight.diagnosis.test_event import TEST_EVENT, send_test_event

__all__ = ["TEST_EVENT", "Finding", "check", "has_errors", "report_lines", "send_test_event", "stats_lines"]
