"""A store in an SQLite file that all processes of a host share."""
