from uuid import uuid4

import pytest


@pytest.fixture
def token() -> str:
    """A word that occurs in one test only."""
    return uuid4().hex
