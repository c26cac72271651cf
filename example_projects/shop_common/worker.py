"""The Celery app as workers load it, with a client of their own, which a shop's middleware creates for itself."""

import sessionsight
from shop_common.jobs import app
from shop_common.storage import DEDUPE_WINDOW, SPOOL

__all__ = ["app"]

sessionsight.configure(spool=SPOOL, dedupe_window=DEDUPE_WINDOW)
