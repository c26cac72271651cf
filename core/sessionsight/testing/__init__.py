"""Tools for the tests of apps: a recorder of captured records, a local inspector, and control of delivery.

They work with pytest, whose fixture `analytics` is a `Recorder`, and without it: `record` is a plain context manager.
Django's `AnalyticsTestCase` is in `sessionsight_django.testing`.
"""

from sessionsight.testing.captured import CapturedRecord
from sessionsight.testing.local_inspector import LocalInspector, run_inspector
from sessionsight.testing.recorder import Recorder, allow_delivery, lenient, record, suppress_delivery

__all__ = [
    "CapturedRecord",
    "LocalInspector",
    "Recorder",
    "allow_delivery",
    "lenient",
    "record",
    "run_inspector",
    "suppress_delivery",
]
