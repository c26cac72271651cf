"""Create the screenshots of the inspector in docs/images.

The session is a real visit to the example shop; all other records are synthetic.

    python scripts/screenshots.py [FOLDER]

It needs Chromium on the path, or its path in the variable CHROMIUM. Text looks best with the font Inter installed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from playwright.sync_api import Browser, sync_playwright

from sessionsight import Client, Settings
from sessionsight.capture.records import DropReason, EventRecord, QueuedRecord
from sessionsight.delivery.options import DeliveryOptions
from sessionsight.delivery.queue.factory import open_spool
from sessionsight.delivery.stores.base import LaneBatch
from sessionsight.inspector.model import InspectedRecord, RecordedRequest
from sessionsight.inspector.options import Options
from sessionsight.inspector.server import RunningInspector, run_in_thread
from sessionsight.log import ThrottledLogger

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
SHOP = "https://shop.example.com"
SERVER = {"User-Agent": "sessionsight-python/0.1.0"}
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0", "Origin": SHOP, "Referer": f"{SHOP}/"}
MINUTE = 60.0

SESSION = "0b0e1f9c-55a4-4d53-8a36-1a2a0b7c5c11"
"""The session that fill() creates with all its records."""

Properties = dict[str, Any]


class Visitor:
    """Sends the records of one visitor's pages and views to all four vendors.

    Args:
        url: The inspector's.
        session: SessionSight's session id. This shop passes it to Analyse.net as well.
        user: Who it is after signing up.
        start: When the visit began, in Unix seconds.
    """

    def __init__(self, url: str, *, session: str, user: str, start: float) -> None:
        self._url, self._session, self._user, self._start = url, session, user, start
        self._visitor = f"4f9c5a36-6a4e-4d0e-8f0b-{session[-12:]}"
        self._known = False

    def sees(self, seconds: float, window: str, name: str, **properties: Any) -> None:
        """Send the events of a page as the browser scripts of Signal and Analyse.net do."""
        when, who = self._when(seconds), self._user if self._known else self._visitor
        place = {"$current_url": SHOP + properties.get("path", "/")}
        self._signal(BROWSER, name, who, {**place, **properties}, when, window=window)
        if name == "$pageview":
            self._analyse(BROWSER, "pageview", properties, when, url=place["$current_url"])

    def does(self, seconds: float, window: str, name: str, title: str, path: str, /, **properties: Any) -> None:
        """Send an event of a view to each vendor in its own format."""
        when, who = self._when(seconds), self._user if self._known else self._visitor
        self._signal(SERVER, name, who, properties, when, window=window)
        ids = {"anonymousId": self._visitor, **({"userId": self._user} if self._known else {})}
        event = {"event": title, **ids, "properties": properties, "timestamp": when}
        self._post("/v1/events/batch", {"events": [event]}, {**SERVER, "Authorization": "Bearer sk_live_example"})
        self._analyse(SERVER, name, properties, when, url=SHOP + path)

    def signs_up(self, seconds: float, window: str) -> None:
        """Identify the user."""
        self._known = True
        self.does(seconds, window, "signup_completed", "Signup Completed", "/signup", method="email", plan="free")
        self._signal(SERVER, "$identify", self._user, {"plan": "free"}, self._when(seconds + 0.1), window=window)

    def reaches(self, goal: str, amount: float = 1, *, back: bool = False, **metadata: str) -> None:
        """Send a goal, which has no time of its own."""
        body = {"goalId": goal, "propertyId": "shop", "amount": amount, "sessionId": self._session}
        path = "/v1/goals/decrement" if back else "/v1/goals/increment"
        self._post(
            path, {**body, **({"metadata": metadata} if metadata else {})}, SERVER | {"x-api-key": "sec_example"}
        )

    def fails(self) -> None:
        """Send two calls that a vendor rejects."""
        event = {"event": "Order Note Added", "userId": self._user, "properties": {"note": "Please ring twice. " * 20}}
        self._post("/v1/events", event, {**SERVER, "Authorization": "Bearer sk_live_example"})
        self.reaches("shop-revenue", -12)

    def _when(self, seconds: float) -> str:
        return datetime.fromtimestamp(self._start + seconds, UTC).isoformat(timespec="milliseconds")

    def _signal(
        self, headers: dict[str, str], name: str, who: str, properties: Properties, when: str, *, window: str
    ) -> None:
        ids = {"distinctId": who, "sessionId": f"signal-{self._session[:8]}", "windowId": window}
        event = {"event": name, **ids, "properties": properties, "timestamp": when}
        body = {"projectId": "shop", "events": [event]}
        self._post("/v1/capture", body, {**headers, "Authorization": "Bearer signal_example"})

    def _analyse(self, headers: dict[str, str], name: str, properties: Properties, when: str, *, url: str) -> None:
        event: Properties = {
            "event_name": name,
            "anonymous_id": self._visitor,
            "session_id": self._session,
            "timestamp": when,
        }
        event |= {"person_id": self._user} if self._known else {}
        event |= {"url": url, "path": url.removeprefix(SHOP), "referrer_domain": "", "properties": properties}
        self._post("/v1/batch", {"publicKey": "pk_live_example", "events": [event]}, headers)

    def _post(self, path: str, body: Properties, headers: dict[str, str]) -> None:
        call = Request(self._url + path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})  # noqa: S310 - http
        try:
            build_opener(ProxyHandler({})).open(call, timeout=10).close()
        except HTTPError as refusal:
            refusal.close()  # which is to be seen on the page


def fill(inspector: RunningInspector) -> None:
    """Send the records of several visitors; the session of the last one is SESSION."""
    add_history(inspector, now=time())
    for number in range(6):
        session, start = f"{number}c1f7e2a-88b0-4c3e-9d55-2f6f0c0a9b1{number}", time() - (40 - 6 * number) * MINUTE
        passing = Visitor(inspector.url, session=session, user=f"user_{30 + number}", start=start)
        window = f"{number}7d0c3f5-aa10-4f0e-9f50-1f2d1f6a7c31"
        passing.sees(0, window, "$pageview", path="/")
        passing.sees(6, window, "$pageview", path="/products/mug")
        passing.does(6.2, window, "product_viewed", "Product Viewed", "/products/mug", product="mug", price=18)
        if number % 2:
            passing.signs_up(30, window)
        passing.sees(52, window, "$pageleave", path="/products/mug")
        if number == 5:
            passing.fails()

    visitor = Visitor(inspector.url, session=SESSION, user="user_41", start=time() - 14.2 * MINUTE)
    first, second = "7d0c3f52-aa10-4f0e-9f50-1f2d1f6a7c31", "c2a91f04-13c7-44d8-8f0e-2a0b5f0b6d22"
    visitor.sees(0, first, "$pageview", path="/")
    visitor.sees(11, first, "$pageview", path="/products/dotted-notebook")
    visitor.does(
        11.2,
        first,
        "product_viewed",
        "Product Viewed",
        "/products/dotted-notebook",
        product="dotted-notebook",
        price=12,
    )
    visitor.sees(33, first, "$pageview", path="/signup")
    visitor.signs_up(62, first)
    visitor.sees(96, second, "$pageview", path="/membership")
    subscription = {"payment_type": "subscription", "billing_interval": "month", "plan": "pro"}
    visitor.does(118, second, "checkout_started", "Checkout Started", "/membership", **subscription)
    visitor.sees(13.6 * MINUTE, second, "$pageview", path="/membership/payment")
    paid = {**subscription, "amount": 4900, "currency": "USD"}
    visitor.does(14.18 * MINUTE, second, "checkout_finished", "Checkout Finished", "/membership/payment", **paid)
    visitor.reaches("user-signups")
    visitor.reaches("monthly-revenue", 49, plan="pro")
    visitor.sees(14.25 * MINUTE, second, "$pageview", path="/membership/thanks")


def add_history(inspector: RunningInspector, *, now: float) -> None:
    """Add an hour of goals and page views directly to the store, because a goal in a request has no time."""
    chance = random.Random(7)  # noqa: S311 - the same pictures each time
    goals = {
        "shop-revenue": (0.6, (12, 12, 18, 30, -12)),
        "monthly-revenue": (0.25, (49,)),
        "user-signups": (0.4, (1,)),
    }

    def keep(minute: int, **values: Any) -> None:
        moment = now - (minute - chance.random()) * MINUTE
        accepted = chance.random() > 0.03
        record = InspectedRecord(
            received_at=moment,
            occurred_at=moment,
            side="server",
            accepted=accepted,
            errors=[] if accepted else ["propertyId: is required"],
            **values,
        )
        _keep(inspector, record, latency=chance.lognormvariate(0.6, 0.5))

    for minute in range(58, 0, -1):
        for goal, (often, amounts) in goals.items():
            if chance.random() < often:
                keep(minute, vendor="sessionsight", kind="goal", name=goal, amount=chance.choice(amounts))
        for vendor in ("signal", "saytics", "analyse"):
            for _ in range(chance.randrange(6)):
                product = {"product": chance.choice(["mug", "dotted-notebook", "fountain-pen"])}
                user = f"user_{chance.randrange(10, 30)}"
                keep(minute, vendor=vendor, kind="event", name="Product Viewed", user_id=user, properties=product)


def _keep(inspector: RunningInspector, record: InspectedRecord, *, latency: float) -> None:
    """Add a record to the store, in its own request."""
    status = 200 if record.accepted else 400
    received = RecordedRequest(
        received_at=record.received_at,
        method="POST",
        path="/v1/batch",
        status=status,
        vendor=record.vendor,
        latency_ms=latency,
    )
    inspector.store.add(received, [record])


def fill_spool(path: Path) -> None:
    """Create a spool in which records wait for each vendor."""
    options, logger = DeliveryOptions(spool_timeout=20.0), ThrottledLogger()
    spool = open_spool(f"sqlite:///{path}", options, logger)
    context, choice = Client(Settings()).for_request({}).context, random.Random(11)  # noqa: S311 - the same each time
    for lane in ("analyse", "saytics", "sessionsight", "signal"):
        queue, now = spool.lane(lane), time()
        records = [
            EventRecord(random=choice.randbytes(10), time=now, name="order_paid", properties=b"{}") for _ in range(1200)
        ]
        dropped = [DropReason.CONSENT] * choice.randrange(20)
        spool.enqueue([LaneBatch(lane, [QueuedRecord(one, context, now) for one in records], dropped)])
        for _ in range(choice.randrange(9, 12)):
            queue.ack(queue.claim(100, 1 << 30))
        queue.close()
    spool.close()


def draw(browser: Browser, url: str, pages: dict[str, str], folder: Path, *, width: int, scheme: Any = "light") -> None:
    """Take screenshots of pages, with a maximum height."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, device_scale_factor=1.5
    )
    page = context.new_page()
    for name, path in pages.items():
        page.goto(url + path)
        page.locator("#live[data-state=live]").wait_for()
        height = min(int(page.evaluate("document.documentElement.scrollHeight")), 1060)
        file = folder / f"{name}.png"
        page.screenshot(path=file, clip={"x": 0, "y": 0, "width": width, "height": height}, full_page=True)
        print(file)
    context.close()


def main(folder: Path) -> None:
    """Create all screenshots."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not on the path; install it with `apt-get install chromium fonts-inter`")
    sys.path += [str(ROOT), str(ROOT / "example_projects")]  # a script's path contains only its own folder
    from scripts.shop_visit import record_visit

    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="shop-") as spool_folder,
        run_in_thread() as empty,
        run_in_thread(Options(port=0, spool=f"{spool_folder}/analytics.db")) as inspector,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        fill(inspector)
        fill_spool(Path(spool_folder) / "analytics.db")
        visit = record_visit(inspector, browser)
        paid = (one for one in inspector.store.session(visit) if one.name == "checkout_finished")
        record = next(one for one in paid if one.vendor == "signal")
        session = {"inspector-session": f"/sessions/{visit}"}
        pages = {
            "inspector-stream": "/",
            **session,
            "inspector-record": f"/records/{record.id}",
            "inspector-sessions": "/sessions",
            "inspector-goals": "/goals",
            "inspector-goal": "/goals/shop-revenue",
            "inspector-health": "/health",
        }
        draw(browser, inspector.url, pages, folder, width=1280)
        draw(browser, empty.url, {"inspector-empty": "/"}, folder, width=1280)
        dark = {f"{name}-dark": path for name, path in session.items()}
        draw(browser, inspector.url, dark, folder, width=1280, scheme="dark")
        narrow = {f"{name}-phone": path for name, path in session.items()}
        draw(browser, inspector.url, narrow, folder, width=380)
        browser.close()


if __name__ == "__main__":
    # Ignored where a shell starts us in the background, and so by the shop, which is stopped by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
