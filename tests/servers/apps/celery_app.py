"""A Celery app, whose broker is a folder, with a task that captures and one that is killed after it has captured."""

import os
import signal
import time
from pathlib import Path

from celery import Celery, signals  # type: ignore[import-untyped]

import sessionsight
from tests.servers.apps.options import OPTIONS

BROKER = Path("broker")
BROKER.mkdir(exist_ok=True)
DONE = Path("done")
DONE.mkdir(exist_ok=True)
CHILDREN = Path("children")
CHILDREN.mkdir(exist_ok=True)

app = Celery("shop", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(BROKER),
        "data_folder_out": str(BROKER),
        "control_folder": str(BROKER),
        "polling_interval": 0.02,
    },
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_enable_remote_control=False,
    worker_lost_wait=0.1,
)
client = sessionsight.configure(**OPTIONS)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def note_child(**_: object) -> None:
    (CHILDREN / str(os.getpid())).touch()


if os.environ.get("CAPTURE_IN_PARENT"):
    client.analytics.capture("captured", {"token": f"parent {os.getpid()}"}, user_id="user_1")


@app.task  # type: ignore[untyped-decorator]
def visit(token: str) -> None:
    client.analytics.capture("captured", {"token": token}, user_id="user_1")
    (DONE / token).write_text(str(os.getpid()))


@app.task  # type: ignore[untyped-decorator]
def pay(token: str) -> None:
    client.analytics.capture("captured", {"token": token}, user_id="user_1", key=f"order:{token}:paid")
    try:
        (DONE / f"{token}-once").touch(exist_ok=False)
    except FileExistsError:
        (DONE / token).touch()
    else:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
