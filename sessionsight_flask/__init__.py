"""sessionsight for Flask, and any WSGI app."""
