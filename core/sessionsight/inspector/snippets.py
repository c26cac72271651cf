"""The lines to paste into an app, so that all that it sends goes to this inspector."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Snippet", "snippets"]


class Snippet(Struct, frozen=True):
    """Lines for one framework."""

    id: str
    title: str
    file: str
    """Where the lines go."""
    code: str


_DESTINATIONS = """{
    "sessionsight": {"secret_api_key": "local", "property_id": "local", "api_url": "@"},
    "signal": {"api_key": "local", "project_id": "local", "endpoint": "@"},
    "saytics": {"secret_key": "local", "api_url": "@"},
    "analyse": {"public_key": "local", "host": "@"},
}"""

_DJANGO = f"""INSTALLED_APPS += ["sessionsight_django"]
MIDDLEWARE += ["sessionsight_django.AnalyticsMiddleware"]
SESSIONSIGHT = {{"DESTINATIONS": {_DESTINATIONS}}}
"""

_FLASK = f"""from sessionsight_flask import SessionSight

app.config["SESSIONSIGHT_DESTINATIONS"] = {_DESTINATIONS}
SessionSight().init_app(app)
"""

_ASGI = f"""from sessionsight_asgi import AnalyticsMiddleware

app.add_middleware(AnalyticsMiddleware, destinations={_DESTINATIONS})
# Any other ASGI app: app = AnalyticsMiddleware(app, destinations=...)
"""

_ENVIRONMENT = """export SESSIONSIGHT_SECRET_API_KEY=local SESSIONSIGHT_PROPERTY_ID=local SESSIONSIGHT_API_URL=@
export SIGNAL_API_KEY=local SIGNAL_PROJECT_ID=local SIGNAL_ENDPOINT=@
export SAYTICS_SECRET_KEY=local SAYTICS_API_URL=@
export ANALYSE_KEY=local ANALYSE_HOST=@
"""

_SNIPPETS = (
    Snippet("django", "Django", "settings.py", _DJANGO),
    Snippet("flask", "Flask", "app.py", _FLASK),
    Snippet("asgi", "ASGI", "Starlette or FastAPI, main.py", _ASGI),
    Snippet("environment", "Environment", "a shell, for an app that has the middleware already", _ENVIRONMENT),
)


def snippets(url: str) -> list[Snippet]:
    """What to paste for Django, Flask and ASGI, and the same as environment variables.

    Args:
        url: The inspector's own address, as the reader's browser has it.
    """
    url = url.rstrip("/")
    return [Snippet(one.id, one.title, one.file, one.code.replace("@", url)) for one in _SNIPPETS]
