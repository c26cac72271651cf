"""The inspector: a local server that speaks the four vendors' ingest protocols, and shows what it is sent.

It needs the extra `inspector`. `sessionsight inspector` starts it from a terminal, `server.run_in_thread`
from a test.
"""
