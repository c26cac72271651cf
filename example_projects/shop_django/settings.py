"""Minimal settings of the shop: no database, sessions in a signed cookie."""

import secrets

import shop_common
from shop_common.storage import DEDUPE_WINDOW, SPOOL

DEBUG = True
SECRET_KEY = secrets.token_hex()  # a new one each time, as the accounts are gone as well
ROOT_URLCONF = "shop_django.urls"

INSTALLED_APPS = [
    "django.contrib.staticfiles",
    "sessionsight_django",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "sessionsight_django.AnalyticsMiddleware",
    "shop_django.views.tag",
]
SESSIONSIGHT = {
    # Who is signed in, in a shop with a login of its own. With django.contrib.auth this line is not needed.
    "USER": lambda request: request.session.get("user_id"),
    # A webhook that is sent again must not be counted again, whichever process gets it, also after a restart.
    "SPOOL": SPOOL,
    "DEDUPE_WINDOW": DEDUPE_WINDOW,
}

SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
STATIC_URL = "/static/"
STATICFILES_DIRS = [shop_common.STATIC]
TEMPLATES = [{"BACKEND": "django.template.backends.jinja2.Jinja2", "DIRS": [shop_common.TEMPLATES]}]
