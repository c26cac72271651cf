"""The app's own database as a durable spool: `spool="django"` in the settings, and this app in `INSTALLED_APPS`."""
