"""Answers to "why does nothing arrive?": checks the configuration, sends a test event, prints the ledger.

The commands of Flask and Django print what these functions return. Nothing here shows a key.
"""

from sessionsight.diagnosis.configuration import check
from sessionsight.diagnosis.findings import Finding, failed, report_lines
from sessionsight.diagnosis.stats_table import stats_lines
from sessionsight.diagnosis.test_event import TEST_EVENT, send_test_event

__all__ = ["TEST_EVENT", "Finding", "check", "failed", "report_lines", "send_test_event", "stats_lines"]
