"""How values read on a page: times, numbers, ids, JSON and raw HTTP. Filters of the templates."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from markupsafe import Markup, escape

from sessionsight.inspector.model import WEBSOCKET, InspectedRecord, RecordedRequest

__all__ = ["FILTERS", "MAX_SHOWN", "as_curl", "raw_request"]

MAX_SHOWN = 64 * 1024
"""Characters of a body or of JSON that a page shows."""

MAX_INLINE = 72
"""Characters of a property's JSON that still stand on one line."""

_YEAR_2 = -62_104_060_800.0
_YEAR_9999 = 253_370_764_800.0
_MINUS = "\N{MINUS SIGN}"
"""As wide as a plus."""
_INVISIBLE = re.compile("[\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
"""Characters without a shape, those among them that turn the direction of writing round."""
_MAGNITUDES = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_OF_CONNECTION = frozenset({"host", "content-length", "content-encoding", "connection", "transfer-encoding"})
"""Headers that the next request has of its own."""
_TOKEN = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*"(?=:))|(?P<string>"(?:[^"\\]|\\.)*")|(?P<word>-?\d[\d.eE+-]*|true|false|null)'
)


def time_milliseconds(moment: float) -> str:
    """The time of day, to the millisecond, where this process runs."""
    return _local(moment).strftime("%H:%M:%S.%f")[:-3]


def time_seconds(moment: float) -> str:
    """The time of day, to the second."""
    return time_milliseconds(moment)[:8]


def date(moment: float) -> str:
    """The date as ISO 8601 writes it."""
    return iso(moment)[:10]


def day(moment: float) -> str:
    """The date in words: `Saturday, 21 November 2026`."""
    local = _local(moment)
    return f"{local:%A}, {local.day} {local:%B %Y}"


def iso(moment: float) -> str:
    """ISO 8601 with the offset from UTC, for machines and for those who point at a time."""
    return _local(moment).isoformat(timespec="milliseconds")


def _local(moment: float) -> datetime:
    """Here, within the years that a date can have: a record may bear any time."""
    return datetime.fromtimestamp(min(max(moment, _YEAR_2), _YEAR_9999)).astimezone()


def offset(seconds: float) -> str:
    """Time since a beginning: `0 s`, `+4 ms`, `+0.25 s`, `+12.4 s`, `+3:07`, `+1:02:03`."""
    if seconds <= 0:
        return "0 s"
    if seconds < 0.0995:
        return f"+{seconds * 1000:.0f} ms"
    if seconds < 10:
        return f"+{seconds:.2f} s"
    if seconds < 60:
        return f"+{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"+{hours}:{minutes:02}:{rest:02}" if hours else f"+{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """A length of time in its two largest units: `40 ms`, `0.4 s`, `12 s`, `3 min 7 s`, `1 h 2 min`."""
    if seconds < 0.1:
        return f"{max(seconds, 0) * 1000:.0f}\N{NO-BREAK SPACE}ms"
    if seconds < 10:
        return f"{seconds:.1f}\N{NO-BREAK SPACE}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{value}\N{NO-BREAK SPACE}{unit}" for value, unit in parts if value]
    return " ".join(shown[:2]) or "0\N{NO-BREAK SPACE}s"


def number(value: float) -> str:
    """With separators, and two decimals where it has a fraction: `1,204`, `49.90`, `0.0014`; huge ones as `1.5e+20`."""
    if abs(value) >= 1e15:
        return f"{value:.4g}"
    if 0 < abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def amount(value: float) -> str:
    """A signed number, with a true minus: `+49`, `-12.50`."""
    return f"{_MINUS if value < 0 else '+'}{number(abs(value))}"


def total(value: float, *, money: bool = False) -> str:
    """Format the total of a goal; money in dollars: `1,204`, `$49.90`, and below zero `-$54.50`, with a true minus."""
    return f"{_MINUS if value < 0 else ''}{'$' if money else ''}{number(abs(value))}"


def tick(value: float, *, money: bool = False) -> str:
    """The same on a chart's axis, where there is little room: `$1.5k`, `-$200M`, `400B`."""
    size = abs(value)
    sign = f"{_MINUS if value < 0 else ''}{'$' if money else ''}"
    for magnitude, letter in _MAGNITUDES:
        if magnitude <= size < 1e15:
            return f"{sign}{size / magnitude:.4g}{letter}"
    return f"{sign}{size:.4g}"


def milliseconds(value: float | None) -> str:
    """A latency: `0.8 ms`, `12 ms`, `1.2 s`."""
    if value is None:
        return "–"  # noqa: RUF001 - nothing is measured yet
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"


def size(count: int) -> str:
    """A number of bytes: `312 bytes`, `4.1 KiB`."""
    if count < 1024:
        return f"{count} byte{'' if count == 1 else 's'}"
    return f"{count / 1024:.1f} KiB" if count < 1024 * 1024 else f"{count / 1024 / 1024:.1f} MiB"


def short_id(text: str | None, length: int = 12) -> str:
    """The beginning of an id, enough to tell it from others."""
    if not text:
        return ""
    return text if len(text) <= length else f"{text[: min(8, length)]}…"


def truncate_text(text: str, length: int) -> str:
    """No more than so many characters of a text that may be as long as its sender likes."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def summary(record: InspectedRecord) -> list[tuple[str, str]]:
    """The first few properties, short enough for a line; the vendors' own (`$...`) only where there are no others.

    Where there are none at all, it is the path that the record names beside its properties.
    """
    path = record.raw.get("path")
    properties = record.properties or ({"path": path} if isinstance(path, str) else {})
    own = {name: value for name, value in properties.items() if not name.startswith("$")} or properties
    return [(truncate_text(name, 40), _inline(own[name])) for name in list(own)[:6]]


def _inline(value: Any) -> str:
    return truncate_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str), 60)


def json_lines(value: Any) -> Markup:
    """JSON, indented, with its names, strings and words in elements of their own; what cannot be seen is escaped."""
    return _coloured(_json(value, indent=2))


def property_value(value: Any) -> Markup:
    """A property: a text as it is, anything else as JSON, on one line where it is short."""
    if isinstance(value, str) and value:
        return escape(_INVISIBLE.sub(_escaped, truncate_text(value, 2000)))
    line = _json(value)
    return _coloured(line) if len(line) <= MAX_INLINE else json_lines(value)


def _json(value: Any, *, indent: int | None = None) -> str:
    return _INVISIBLE.sub(_escaped, json.dumps(value, indent=indent, ensure_ascii=False, default=str))


def _escaped(unseen: re.Match[str]) -> str:
    return f"\\u{ord(unseen[0]):04x}"


def _coloured(text: str) -> Markup:
    shown, rest = text[:MAX_SHOWN], len(text) - MAX_SHOWN
    parts: list[Markup] = []
    end = 0
    for found in _TOKEN.finditer(shown):
        parts.append(escape(shown[end : found.start()]))
        parts.append(Markup('<span class="{}">{}</span>').format(f"json-{found.lastgroup}", found[0]))
        end = found.end()
    parts.append(escape(shown[end:]))
    if rest > 0:
        parts.append(Markup('\n<span class="cut">… {} more characters</span>').format(number(rest)))
    return Markup("").join(parts)


def body(content: bytes) -> Markup:
    """A body as text; JSON is indented."""
    try:
        return json_lines(msgspec.json.decode(content))
    except (msgspec.DecodeError, RecursionError, ValueError):  # numbers may be too long to be written again
        text = content.decode("utf-8", "replace")
    if len(text) <= MAX_SHOWN:
        return escape(text)
    return escape(text[:MAX_SHOWN]) + Markup('\n<span class="cut">… {} more characters</span>').format(
        number(len(text) - MAX_SHOWN)
    )


def raw_request(request: RecordedRequest) -> Markup:
    """A request as it came over the wire, its JSON indented."""
    target = f"{request.path}?{request.query}" if request.query else request.path
    head = Markup('<span class="json-key">{}</span> {} HTTP/1.1\n').format(request.method, target)
    lines = (Markup('<span class="json-key">{}</span>: {}\n').format(name, value) for name, value in request.headers)
    return head + Markup("").join(lines) + "\n" + body(request.body)


def as_curl(request: RecordedRequest, url: str) -> str:
    """The command that sends a request once more, secrets cut as they are kept; nothing for large ones and messages.

    Args:
        request: What is sent again.
        url: The inspector's address.
    """
    if len(request.body) > MAX_SHOWN or request.method == WEBSOCKET:
        return ""
    target = f"{url}{request.path}?{request.query}" if request.query else f"{url}{request.path}"
    kept = ((name, value) for name, value in request.headers if name not in _OF_CONNECTION)
    headers = [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in kept]
    sent = [f"--data-raw {shlex.quote(request.body.decode('utf-8', 'replace'))}"] if request.body else []
    return " \\\n  ".join([f"curl -X {request.method} {shlex.quote(target)}", *headers, *sent]) + "\n"


FILTERS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        truncate_text,
        time_milliseconds,
        date,
        day,
        time_seconds,
        iso,
        offset,
        duration,
        number,
        amount,
        total,
        tick,
        milliseconds,
        size,
        short_id,
        summary,
        json_lines,
        property_value,
        body,
    )
}
