"""Kills processes by -9 within purchases whose records are in the shop's own database, and compares both.

    python -m tests.chaos.purchase postgresql /tmp/folder 7 200

Each process is killed at a random point of a transaction that stores an order and captures it. Every third purchase is
rolled back. Afterwards each order has one record, and each record has its order.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

from msgspec import Struct

_SECONDS = 0.02
"""The longest life of a process after its first purchase."""


class Result(Struct, frozen=True):
    """The outcome of all kills."""

    engine: str
    kills: int
    orders: int
    records: int
    orders_without_record: int
    records_without_order: int

    def problems(self) -> list[str]:
        """Return what must not be."""
        wrong = {
            "orders without a record": self.orders_without_record,
            "records without an order": self.records_without_order,
            "records of the same order": self.records - self.orders,
        }
        return [f"{number} {what}" for what, number in wrong.items() if number]

    def __str__(self) -> str:
        return (
            f"{self.kills} processes killed within a purchase on {self.engine}: "
            f"{self.orders} orders, {self.records} records"
        )


def run(engine: str, folder: Path, seed: int, kills: int) -> Result:
    """Run it in a process of its own, which forks the shops that are killed."""
    command = [sys.executable, "-m", "tests.chaos.purchase", engine, str(folder), str(seed), str(kills)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300).stdout
    return Result(**json.loads(output))


def _main(engine: str, folder: Path, seed: int, kills: int) -> Result:
    from tests.adapters.outbox_databases import close_connection, outbox_database, outbox_store

    chance = random.Random(seed)
    with outbox_database(engine, folder, "default") as alias:
        _execute("CREATE TABLE orders (name varchar(40), PRIMARY KEY (name))")
        close_connection(alias)
        for number in range(kills):
            _kill(number, chance.uniform(0, _SECONDS))
        _wait_for_the_killed(engine)
        orders = {name for (name,) in _execute("SELECT name FROM orders")}
        store = outbox_store(alias)
        claims: list[Any] = []
        while batch := store.claim("analyse", max_records=500, max_bytes=10**9, timeout=20.0).claims:
            claims += batch
        store.close()
    records = [_order_of(claim.body) for claim in claims]
    return Result(engine, kills, len(orders), len(records), len(orders - {*records}), len({*records} - orders))


def _order_of(body: bytes) -> str:
    from sessionsight.delivery.queue.codec import decode_entry

    name: str = json.loads(decode_entry(body, enqueued_at=0, handle=0).record.properties)["order"]
    return name


def _kill(number: int, after: float) -> None:
    """Fork a shop, and kill it this number of seconds after its first purchase."""
    begun, begins = os.pipe()
    shop = os.fork()
    if shop == 0:
        try:
            _sell(number, begins)
        finally:
            os._exit(1)
    os.read(begun, 1)
    time.sleep(after)
    os.kill(shop, signal.SIGKILL)
    _, status = os.waitpid(shop, 0)
    os.close(begun)
    os.close(begins)
    assert os.WIFSIGNALED(status), f"the shop has failed: {status}"


def _sell(number: int, begins: int) -> None:
    from django.db import transaction

    from sessionsight import Client, Settings
    from sessionsight.destinations import Analyse
    from sessionsight_django import clients

    client = Client(Settings(destinations=(Analyse(public_key="pk_live_1"),), spool="django", delivery="relay"))
    client.join_transaction = clients._join_transaction(client.settings)
    analytics = client.bind(user_id="user_1")
    for purchase in count():
        name = f"{number}-{purchase}"
        with suppress(ZeroDivisionError), transaction.atomic():
            if purchase % 2:
                analytics.capture("bought", {"order": name})
            _execute("INSERT INTO orders VALUES (%s)", name)
            if not purchase % 2:
                analytics.capture("bought", {"order": name})
            if purchase % 3 == 2:
                raise ZeroDivisionError
        if purchase == 0:
            os.write(begins, b"1")


def _wait_for_the_killed(engine: str) -> None:
    """Wait until the server has noticed that its clients are gone."""
    others = {
        "postgresql": "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "mariadb": "SELECT 1 FROM information_schema.processlist WHERE db = database() AND id <> connection_id()",
    }
    while engine in others and _execute(others[engine]):
        pass


def _execute(statement: str, *parameters: str) -> list[Any]:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
        return list(cursor.fetchall()) if cursor.description else []


if __name__ == "__main__":
    engine_name, folder_name, seed_text, kills_text = sys.argv[1:]
    found = _main(engine_name, Path(folder_name), int(seed_text), int(kills_text))
    print(json.dumps({name: getattr(found, name) for name in found.__struct_fields__}))
