"""One Django project for all tests, since Django's settings exist once in a process. Import it before Django."""

from __future__ import annotations

import django
from django.conf import settings

from sessionsight.capture.current import set_default_client

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "sessionsight_django",
            "sessionsight_django.outbox",
        ],
        LOGGING_CONFIG=None,
        ROOT_URLCONF="tests.conformance.apps.django_app",
        SECRET_KEY="test",
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        USE_TZ=True,
    )
    django.setup()
    set_default_client(None)
