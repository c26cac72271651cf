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
from itertools import count
from pathlib import Path
from typing import Any

from msgspec import Struct

from tests.chaos.shops import Shop, open_shop, wait_for_the_killed

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
    chance = random.Random(seed)
    with open_shop(engine, folder) as shop:
        for number in range(kills):
            _kill(shop, number, chance.uniform(0, _SECONDS))
        wait_for_the_killed(engine, shop)
        orders = {name for (name,) in shop.execute("SELECT name FROM orders")}
        store = shop.store()
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


def _kill(shop: Shop, number: int, after: float) -> None:
    """Fork a shop, and kill it this number of seconds after its first purchase."""
    begun, begins = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _sell(shop, number, begins)
        finally:
            os._exit(1)
    os.read(begun, 1)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(begun)
    os.close(begins)
    assert os.WIFSIGNALED(status), f"the shop has failed: {status}"


def _sell(shop: Shop, number: int, begins: int) -> None:
    sell = shop.seller()
    for purchase in count():
        sell(f"{number}-{purchase}", purchase % 2 == 1, purchase % 3 == 2)
        if purchase == 0:
            os.write(begins, b"1")


if __name__ == "__main__":
    engine_name, folder_name, seed_text, kills_text = sys.argv[1:]
    found = _main(engine_name, Path(folder_name), int(seed_text), int(kills_text))
    print(json.dumps({name: getattr(found, name) for name in found.__struct_fields__}))
