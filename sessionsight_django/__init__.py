"""sessionsight for Django."""
