"""The Django app."""

from __future__ import annotations

import sys
from pathlib import PurePath

from django.apps import AppConfig
from django.core import checks

from sessionsight import ConfigurationError
from sessionsight.adapters import logger
from sessionsight_django.checks import check_configuration, check_database
from sessionsight_django.clients import client

__all__ = ["SessionSightConfig"]


class SessionSightConfig(AppConfig):
    """Checks the settings when Django starts, and makes `sessionsight.current()` work in commands and jobs.

    A wrong setting stops servers, workers and scripts. A command of `manage.py` logs the error and goes on, so that the
    system check `sessionsight.E001` can report it in detail, and `manage.py shell` remains usable.

    Example:
        >>> INSTALLED_APPS = ["sessionsight_django"]
    """

    name = "sessionsight_django"
    verbose_name = "SessionSight"

    def ready(self) -> None:
        """Make the client."""
        checks.register(check_configuration, "sessionsight")
        checks.register(check_database, "sessionsight", checks.Tags.database)
        try:
            client()
        except ConfigurationError as error:
            if not _is_command(sys.argv):
                raise
            logger.error("%s", error)  # the traceback would not help


def _is_command(argv: list[str]) -> bool:
    """Return whether the process was started as `manage.py`, `django-admin` or `python -m django`."""
    program = PurePath(argv[0]) if argv else PurePath()
    return program.stem in {"manage", "django-admin"} or program.parts[-2:] == ("django", "__main__.py")
