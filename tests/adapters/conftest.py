from collections.abc import Iterator

import pytest

from sessionsight.capture.current import set_default_client
from tests.adapters.recording import Recorder


@pytest.fixture(autouse=True)
def _no_default_client() -> Iterator[None]:
    """The first middleware that is made gives the process its client; here each test is the first."""
    set_default_client(None)
    yield
    set_default_client(None)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    yield recorder
    recorder.client.shutdown()


@pytest.fixture
def inline() -> Iterator[Recorder]:
    """Its responses wait for delivery."""
    recorder = Recorder(flush="inline")
    yield recorder
    recorder.client.shutdown()
