"""The number of Hypothesis's examples: few while one works (profile `dev`), more in CI (profile `ci`)."""

from __future__ import annotations

from hypothesis import settings


def examples(factor: float) -> int:
    """Multiply the number of examples of the profile.

    Args:
        factor: 1 is the number that tests have which ask for none.

    Returns:
        The number for `max_examples`.
    """
    return round(factor * settings().max_examples)
