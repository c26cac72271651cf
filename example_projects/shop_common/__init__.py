"""Shared code of the three shops, so that they differ only by their framework."""

from pathlib import Path

STATIC = Path(__file__).with_name("static")
TEMPLATES = Path(__file__).with_name("templates")
