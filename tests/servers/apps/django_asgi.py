"""The Django site for ASGI servers."""

from sessionsight_django.asgi import get_asgi_application

application = get_asgi_application()
