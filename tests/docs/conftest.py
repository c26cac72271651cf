"""No page delivers to a vendor."""

from collections.abc import Iterator

import pytest

import sessionsight
from sessionsight.capture.current import default_client, set_default_client


@pytest.fixture(autouse=True)
def _unreachable_vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The pages' keys are dots: nothing may leave, and nothing is waited for at the end."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    yield
    try:
        client = default_client()
    except sessionsight.NoClientError:
        return
    assert isinstance(client, sessionsight.Client)
    client.shutdown(0)
    set_default_client(None)
