"""Stores that keep records across the end of a process."""
