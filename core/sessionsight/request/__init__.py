"""Requests: raw data, and the tracking context that it resolves to."""
