"""sessionsight for any ASGI app, Starlette and FastAPI among them."""
