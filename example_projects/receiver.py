"""Stands in for all four vendors on one local port, and shows each record as it arrives.

    python example_projects/receiver.py --port 8900

prints the environment variables that send a shop's records here. `GET /records` gives them as JSON.
"""

import argparse
import gzip
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import strftime
from typing import Any

Record = dict[str, Any]
Show = Callable[[str], None]

HEADING = f"{'time':8}  {'vendor':12}  {'record':28}  {'session':8}  {'who':12}  amount"


def environment(url: str) -> dict[str, str]:
    """What makes a shop send everything to a receiver, instead of to the vendors."""
    return {
        "SESSIONSIGHT_SECRET_API_KEY": "sessionsight_sec_example",
        "SESSIONSIGHT_PROPERTY_ID": "example-shop",
        "SESSIONSIGHT_API_URL": url,
        "SIGNAL_API_KEY": "example",
        "SIGNAL_PROJECT_ID": "example-shop",
        "SIGNAL_ENDPOINT": url,
        "SAYTICS_SECRET_KEY": "sk_live_example",
        "SAYTICS_API_URL": url,
        "ANALYSE_KEY": "pk_live_example",
        "ANALYSE_HOST": url,
    }


def read(path: str, body: Record) -> Iterator[Record]:
    """The records of one call, in the words of all vendors alike; the vendor is known by the path."""
    match path.strip("/").split("/"):
        case ["v1", "goals", ("increment" | "decrement") as direction]:
            ids = {"name": "goalId", "session": "sessionId"}
            yield record("sessionsight", body, kind=direction, amount=body["amount"], **ids)
        case ["v1", "capture"]:
            for event in body["events"]:
                ids = {"name": "event", "session": "sessionId", "window": "windowId", "user": "distinctId"}
                yield record("signal", event, **ids)
        case ["v1", "events", *_]:
            for event in body.get("events", [body]):
                yield record("saytics", event, name="event", user="userId", anonymous="anonymousId")
        case ["v1", "users", "identify"]:
            yield record("saytics", {**body, "event": "identify"}, name="event", user="userId")
        case ["v1", "batch"]:
            for event in body["events"]:
                yield record("analyse", event, name="event_name", user="person_id", anonymous="anonymous_id")
        case _:
            raise LookupError(path)


def record(vendor: str, sent: Record, *, kind: str = "", amount: Any = None, **names: str) -> Record:
    values = {field: sent.get(names.get(field, "")) for field in ("name", "session", "window", "user", "anonymous")}
    properties = sent.get("properties") or {}
    return {"vendor": vendor, "kind": kind, **values, "amount": amount or properties.get("amount"), "sent": sent}


def line(record: Record) -> str:
    """One row under `HEADING`."""
    name = f"{record['name']} {record['kind']}".strip()
    session = (record["session"] or "")[:8]
    who = record["user"] or record["anonymous"] or ""
    who = who if len(who) <= 12 else f"{who[:8]}…"
    amount = "" if record["amount"] is None else f"{record['amount']:g}"
    return f"{strftime('%H:%M:%S')}  {record['vendor']:12}  {name:28}  {session:8}  {who:12}  {amount}".rstrip()


def print_line(text: str) -> None:
    """At once, and in one piece: vendors' calls arrive in threads of their own."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Receiver(ThreadingHTTPServer):
    """Listens on a loopback port, 0 for any; `serve_forever()` as with every server of the standard library."""

    daemon_threads = True

    def __init__(self, port: int = 0, show: Show = print_line) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.records: list[Record] = []
        self.show = show

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            raw = gzip.decompress(raw)
        try:
            records = list(read(self.path, json.loads(raw)))
        except LookupError as error:
            self.reply(404, {"error": {"code": "not_found", "message": f"no vendor has {error}"}})
            return
        for arrived in records:
            self.server.show(line(arrived))
        self.server.records += records
        self.reply(200, {"success": True, "status": "ok", "received": len(records)})

    def do_GET(self) -> None:
        known = self.path == "/records"
        self.reply(200 if known else 404, self.server.records if known else {"error": "only /records is here"})

    def reply(self, status: int, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """The records are the log."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Show what arrives at the four vendors.")
    parser.add_argument("--port", type=int, default=8900)
    receiver = Receiver(parser.parse_args().port)
    for name, value in environment(receiver.url).items():
        print_line(f"export {name}={shlex.quote(value)}")
    print_line(f"\n{HEADING}")
    try:
        receiver.serve_forever()
    except KeyboardInterrupt:
        receiver.server_close()
