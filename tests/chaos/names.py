"""Name resolution within the process: it knows the vendors of a run, and fails when their schedule says so."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.chaos.vendor import Vendor


@contextmanager
def known(*vendors: Vendor) -> Iterator[None]:
    """Resolve names under `.invalid` to these vendors, unless their schedules say otherwise."""
    by_host = {urlsplit(vendor.url).hostname: vendor for vendor in vendors}
    original = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if not str(name).endswith(".invalid"):
            return original(host, *arguments, **options)
        vendor = by_host.get(name)
        if vendor is None or not vendor.is_found():
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return original("127.0.0.1", *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", look_up)
        yield
