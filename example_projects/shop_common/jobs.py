"""Jobs of the shops: run by Celery workers if CELERY_BROKER_URL is set, otherwise at once by the shop itself.

celery --workdir example_projects --app shop_common.worker worker
"""

# mypy: disable-error-code="import-untyped, untyped-decorator"

import os

from celery import Celery

import sessionsight
from sessionsight.propagation.celery import connect

app = Celery("shop")
app.conf.task_always_eager = "CELERY_BROKER_URL" not in os.environ
connect(app)


@app.task
def send_receipt(order_id: str) -> None:
    """Here a real shop would send an e-mail. Whose order it was comes along with the job."""
    sessionsight.current().capture("Receipt Sent", {"order_id": order_id})
