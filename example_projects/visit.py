"""A visit to the shop without a browser, and the records that it must lead to; for `demo.py --check`."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import uuid4

import httpx

from sessionsight.inspector.model import InspectedRecord

EMAIL = "you@example.com"


class Row(NamedTuple):
    """Return the relevant fields of a record."""

    vendor: str
    name: str
    session: str | None = None
    window: str | None = None
    user: str | None = None
    anonymous: str | None = None
    amount: float | None = None

    @classmethod
    def of(cls, record: InspectedRecord) -> "Row":
        ids = (record.session_id, record.window_id, record.user_id, record.visitor_id)
        return cls(record.vendor, record.name, *ids, record.amount)


def new_id() -> str:
    return str(uuid4())


@dataclass
class Visit:
    """A browser, as far as a server can notice one: cookies, forms, fetch, and ids as browser.js sets them."""

    http: httpx.Client
    visitor: str = field(default_factory=new_id)
    session: str = ""
    signal_session: str = field(default_factory=new_id)
    signal_window: str = field(default_factory=new_id)
    signal_person: str = field(default_factory=new_id)
    html: str = ""
    user: str = ""
    sessions: dict[str, str] = field(default_factory=dict)
    """The session of each step's page."""

    def load(self, path: str) -> None:
        self._show(self.http.get(path))

    def submit(self, step: str, path: str, **fields: str) -> None:
        """A plain form post: cookies, and the fields of the form."""
        self.sessions[step] = self.session
        self._show(self.http.post(path, data={**self._hidden_fields(), **fields}))

    def fetch(self, step: str, path: str) -> None:
        """A form post by fetch, with Signal's headers; then the page that the answer names."""
        self.sessions[step] = self.session
        headers = {
            "x-signal-session-id": self.signal_session,
            "x-signal-window-id": self.signal_window,
            "x-signal-distinct-id": self.signal_person,
        }
        answer = self.http.post(path, data=self._hidden_fields(), headers=headers).raise_for_status()
        self.load(answer.json()["next"])

    def find(self, pattern: str) -> str:
        found = re.search(pattern, self.html)
        if found is None:
            raise LookupError(f"{pattern!r} is not on the page {self.html!r}")
        return found[1]

    def _show(self, response: httpx.Response) -> None:
        self.html = response.raise_for_status().text
        self.session = new_id()  # each page load is a session of its own
        self.http.cookies.set("ss_vid", self.visitor)
        self.http.cookies.set("ss_sid", self.session)

    def _hidden_fields(self) -> dict[str, str]:
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.html)
        return {"csrfmiddlewaretoken": token[1]} if token else {}


def visit(url: str) -> Visit:
    """Look around, sign up, subscribe, buy a mug, and give it back."""
    with httpx.Client(base_url=url, follow_redirects=True, timeout=10, trust_env=False) as http:
        visit = Visit(http)
        visit.load("/")
        visit.load("/products/mug")
        visit.load("/signup")
        visit.submit("sign up", "/signup", email=EMAIL)
        visit.load("/membership")
        visit.submit("subscribe", "/membership")
        visit.user = visit.find(r"<dd>(user_\d+)</dd>")
        visit.load("/products/mug")
        visit.fetch("buy", "/products/mug/buy")
        visit.fetch("refund", visit.find(r'action="(/orders/\w+/refund)"'))
        return visit


def expect(visit: Visit) -> list[Row]:
    """All that a visit must lead to, and nothing else may arrive."""
    rows: list[Row] = []

    def goal(step: str, name: str, amount: float = 1) -> None:
        rows.append(Row("sessionsight", name, session=visit.sessions[step], amount=amount))

    def event(
        name: str,
        *,
        user: str | None = visit.user,
        fetch: bool = False,
        amount: float | None = None,
        at_saytics: float | None = None,
    ) -> None:
        """An event at the three vendors that take events. A typed event's amount is in cents, but for Saytics."""
        rows.append(Row("saytics", name, user=user, anonymous=visit.visitor, amount=at_saytics or amount))
        rows.append(Row("analyse", name, user=user, anonymous=visit.visitor, amount=amount))
        if fetch:
            rows.append(Row("signal", name, visit.signal_session, visit.signal_window, user=user, amount=amount))
        elif user:  # without its headers, Signal knows nobody but the signed-in user
            rows.append(Row("signal", name, user=user, amount=amount))

    def identify() -> None:
        rows.append(Row("saytics", "identify", user=visit.user))
        rows.append(Row("analyse", "$identify", user=visit.user, anonymous=visit.visitor))
        rows.append(Row("signal", "$identify", user=visit.user))

    event("Product Viewed", user=None)

    identify()
    event("signup_completed")
    goal("sign up", "user-signups")

    event("checkout_started")
    event("checkout_finished", amount=4900, at_saytics=49)
    goal("subscribe", "monthly-revenue", 49)
    identify()

    event("Product Viewed")
    event("checkout_started", fetch=True)
    in_signal = (visit.signal_session, visit.signal_window)
    # By the stock service, which knows the browser's ids, but no user.
    rows.extend(Row(vendor, "Stock Reserved", anonymous=visit.visitor) for vendor in ("saytics", "analyse"))
    rows.append(Row("signal", "Stock Reserved", *in_signal, anonymous=visit.signal_person))
    event("checkout_finished", fetch=True, amount=1850, at_saytics=18.5)
    goal("buy", "shop-revenue", 18.5)
    event("Receipt Sent", fetch=True)

    event("Order Refunded", fetch=True, amount=18.5)
    goal("buy", "shop-revenue", -18.5)  # in the session of the payment, whose metadata the provider returns
    return rows


def compare(expected: list[Row], records: list[InspectedRecord]) -> list[str]:
    wanted, arrived = Counter(expected), Counter(map(Row.of, records))
    missing = [f"missing:    {told(row)}" for row in (wanted - arrived).elements()]
    unexpected = [f"unexpected: {told(row)}" for row in (arrived - wanted).elements()]
    refused = [f"refused:    {told(Row.of(record))}: {record.errors[0]}" for record in records if not record.accepted]
    return missing + unexpected + refused


def told(row: Row) -> str:
    ids = [f"{name}={value}" for name, value in row._asdict().items() if value is not None]
    return ", ".join(ids)


def summary(shop: str, records: list[InspectedRecord]) -> str:
    vendors = Counter(record.vendor for record in records)
    arrived = ", ".join(f"{vendor} {number}" for vendor, number in sorted(vendors.items())) or "nothing"
    return f"{shop}: arrived at {arrived}"
