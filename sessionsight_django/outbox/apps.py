"""The Django app of the outbox."""

from __future__ import annotations

from django.apps import AppConfig

__all__ = ["OutboxConfig"]


class OutboxConfig(AppConfig):
    """Creates the tables of `spool="django"`.

    Example:
        >>> INSTALLED_APPS = ["sessionsight_django", "sessionsight_django.outbox"]
    """

    name = "sessionsight_django.outbox"
    label = "sessionsight_outbox"
    verbose_name = "SessionSight outbox"
    default_auto_field = "django.db.models.BigAutoField"
