"""Raises an error for `"sessionsight"` in Django's INSTALLED_APPS, where it would have no effect.

Only Django imports this module, as that of any app.
"""

import sys

from sessionsight.errors import ConfigurationError

__all__: list[str] = []

_django = sys.modules.get("django.apps")
if _django is not None and _django.apps.loading and not _django.apps.apps_ready:
    raise ConfigurationError(
        'INSTALLED_APPS contains "sessionsight", which is not a Django app; replace it by "sessionsight_django", '
        'and add "sessionsight_django.AnalyticsMiddleware" to MIDDLEWARE'
    )
