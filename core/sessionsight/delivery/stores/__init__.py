"""Stores that keep queued records beyond the life of a process."""
