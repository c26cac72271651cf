"""Whether threads run beside the host's own."""

from __future__ import annotations

import sys

__all__ = ["run"]


def run() -> bool:
    """False under a uWSGI that lets its apps' threads sleep: one older than 2.0.27, without `enable-threads`."""
    return bool(getattr(sys.modules.get("uwsgi"), "has_threads", True))
