"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig

from sessionsight_django.clients import client

__all__ = ["SessionSightConfig"]


class SessionSightConfig(AppConfig):
    """Checks the settings when Django starts, and makes `sessionsight.current()` work in commands and jobs."""

    name = "sessionsight_django"
    verbose_name = "SessionSight"

    def ready(self) -> None:
        """Make the client."""
        client()
