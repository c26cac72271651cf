"""Fixtures of the tests around transactions, for a module to import; the conftest does not import Django.

    from tests.adapters.django_order_fixtures import orders_in_files, recorder_that_holds  # noqa: F401  # fixtures

Each test of such a module gets databases of its own, and as `recorder` a client that waits for commits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.django_orders import recording, two_databases
from tests.adapters.recording import Recorder


# Under another name than the tests ask for, which would shadow it.
@pytest.fixture(name="recorder")
def recorder_that_holds() -> Iterator[Recorder]:
    """A client as Django's adapter makes it: inside a transaction records wait for its end."""
    recorder = recording()
    yield recorder
    recorder.client.shutdown()


@pytest.fixture(autouse=True)
def orders_in_files(tmp_path: Path) -> Iterator[None]:
    """Two databases of the test's own, with tables for orders."""
    with two_databases(tmp_path):
        yield
