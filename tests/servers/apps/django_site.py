"""A Django site of two pages: `/pid` tells which process answers, `/capture/…` also captures what the path says.

Settings, urls and views in one module. `django_wsgi` and `django_asgi` are its apps.
"""

import os
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.servers.apps.options import OPTIONS

ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["sessionsight_django"]
MIDDLEWARE = ["sessionsight_django.AnalyticsMiddleware"]
ROOT_URLCONF = "tests.servers.apps.django_site"
SECRET_KEY = "only for tests"
SESSIONSIGHT = {name.upper(): value for name, value in OPTIONS.items()}
USE_TZ = True
WSGI_APPLICATION = "tests.servers.apps.django_wsgi.application"


def pid(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(os.getpid()))


def capture(request: Any, token: str) -> HttpResponse:
    request.analytics.capture("captured", {"token": token}, user_id="user_1")
    return pid(request)


urlpatterns = [path("pid", pid), path("capture/<token>", capture)]
