"""Detects if this process is one of several workers, which do not share memory."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence

__all__ = ["may_have_peers"]

_IMPORTED_IN = os.getpid()
# As gunicorn, uvicorn, hypercorn and granian write it, in one word or two.
_WORKERS = re.compile(r"(?:^|\s)(?:--workers(?:=|\s+)|-w(?:=|\s*))(\d+)(?=\s|$)")


def may_have_peers(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> bool:
    """Return True if this process is, as far as it can be known, one of several workers.

    The number comes from uWSGI, `--workers`, `GUNICORN_CMD_ARGS` or `WEB_CONCURRENCY`. Without any of these, a process
    made by gunicorn, `multiprocessing` or a fork counts as one of several. Other hosts and containers cannot be seen.

    Args:
        argv: Replaces `sys.argv`.
        environ: Replaces the process's environment.

    Example:
        >>> may_have_peers(["uvicorn", "--workers", "4", "shop:app"], {})
        True
        >>> may_have_peers(["gunicorn", "shop:app"], {"WEB_CONCURRENCY": "1"})
        False
    """
    argv = sys.argv if argv is None else argv
    environ = os.environ if environ is None else environ
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None:
        return int(getattr(uwsgi, "numproc", 1)) > 1
    if "--reload" in argv:
        return False
    for text in (
        " ".join(argv),
        environ.get("GUNICORN_CMD_ARGS", ""),
        f"--workers {environ.get('WEB_CONCURRENCY', '')}",
    ):
        if numbers := _WORKERS.findall(text):
            return int(numbers[-1]) > 1
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        return True
    return "gunicorn.arbiter" in sys.modules or os.getpid() != _IMPORTED_IN
