"""Clients that deliver to memory."""

from collections.abc import Callable
from typing import Any

import pytest

from sessionsight import Client, Settings
from tests.core.box import Box, BoxDestination, Recorder

MakeRecorder = Callable[..., Recorder]


@pytest.fixture
def make_recorder() -> MakeRecorder:
    """Creates clients that deliver to a box; options are those of `Settings`."""

    def make(*names: str, **options: Any) -> Recorder:
        box = Box()
        destinations = tuple(BoxDestination(name) for name in names or ("box",))
        settings = Settings(destinations=destinations, linger=0, **options)
        return Recorder(Client(settings, make_transport=lambda destination: box), box)

    return make


@pytest.fixture
def recorder(make_recorder: MakeRecorder) -> Recorder:
    """A strict client that delivers to a box."""
    return make_recorder(strict=True)


@pytest.fixture
def lenient(make_recorder: MakeRecorder) -> Recorder:
    """A client as in production: an invalid call is logged."""
    return make_recorder()
