"""Stops a Django that has `"sessionsight"` in INSTALLED_APPS, where it would do nothing.

Django imports this module of every app that it loads. Nothing else does.
"""

import sys

from sessionsight.errors import ConfigurationError

__all__: list[str] = []

_django = sys.modules.get("django.apps")
if _django is not None and _django.apps.loading and not _django.apps.apps_ready:
    raise ConfigurationError(
        'INSTALLED_APPS has "sessionsight", which is no Django app; write "sessionsight_django" in its place, '
        'and "sessionsight_django.AnalyticsMiddleware" into MIDDLEWARE'
    )
