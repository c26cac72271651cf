"""The lines to paste into an app, so that all that it sends goes to this inspector."""

from __future__ import annotations

import shlex

from msgspec import Struct

from sessionsight.inspector.templating import environment

__all__ = ["Snippet", "snippets"]


class Snippet(Struct, frozen=True):
    """Lines for one framework."""

    id: str
    title: str
    file: str
    """Where the lines go."""
    code: str


_DESTINATIONS = """{
    "sessionsight": {"secret_api_key": "local", "property_id": "local", "api_url": INSPECTOR},
    "signal": {"api_key": "local", "project_id": "local", "endpoint": INSPECTOR},
    "saytics": {"secret_key": "local", "api_url": INSPECTOR},
    "analyse": {"public_key": "local", "host": INSPECTOR},
}"""

_DJANGO = f"""INSTALLED_APPS += ["sessionsight_django"]
MIDDLEWARE += ["sessionsight_django.AnalyticsMiddleware"]
INSPECTOR = "@"
SESSIONSIGHT = {{"DESTINATIONS": {_DESTINATIONS}}}
"""

_FLASK = f"""from sessionsight_flask import SessionSight

INSPECTOR = "@"
app.config["SESSIONSIGHT_DESTINATIONS"] = {_DESTINATIONS}
SessionSight().init_app(app)
"""

_ASGI = f"""from sessionsight_asgi import AnalyticsMiddleware

INSPECTOR = "@"
app.add_middleware(AnalyticsMiddleware, destinations={_DESTINATIONS})
# An app without add_middleware(): app = AnalyticsMiddleware(app, destinations=...)
"""


def snippets(url: str) -> list[Snippet]:
    """Return settings to paste for Django, Flask and ASGI, and the same as environment variables.

    Args:
        url: The inspector's own address, as the reader's browser has it.
    """
    url = url.rstrip("/")
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment(url).items())
    return [
        Snippet("django", "Django", "At the end of settings.py", _DJANGO.replace("@", url)),
        Snippet("flask", "Flask", "Where the app is made", _FLASK.replace("@", url)),
        Snippet("asgi", "ASGI", "Where the Starlette or FastAPI app is made", _ASGI.replace("@", url)),
        Snippet("environment", "Environment", "In the shell that starts an app which has the middleware", exports),
    ]
