"""Template tags for Django."""
