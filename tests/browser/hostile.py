"""Content that no page expects: too long, from right to left, in numbers beyond reason, or meant to break out."""

from sessionsight.inspector.model import InspectedRecord
from sessionsight.inspector.store import Store
from tests.core.inspector.samples import goal, keep, record

__all__ = ["EMOJI", "HTML", "ID", "LONG", "RTL", "fill_with_hostile"]

LONG = "W" * 10_000
ID = "a1b2c3d4-" * 14 + "ab"
"""128 characters, as many as SessionSight takes."""
RTL = "طلب جديد تمت معالجته"
EMOJI = "🎉🛒👩‍👩‍👧‍👦 paid 🎉"
HTML = "\"'><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"><b>bold</b>"

AMOUNTS = {
    "below-zero": (-5, -12.5, 3, -40),
    "twelve-digits": (123_456_789_012.34, 250_000_000_000),
    "twelve-digits-below-zero": (-123_456_789_012.34, -7),
    "thousandths": (0.001, 0.0004),
    "beyond-reason": (1e15, 1e20, -3e19),
    "one-step": (1,),
}


def fill_with_hostile(store: Store) -> list[str]:
    """Gives the paths of the pages that show it."""
    paths = ["/", "/?status=refused", "/sessions", "/goals", "/health", "/?vendor=nobody", "/nowhere", "/records/0"]
    for text in (LONG, ID, RTL, EMOJI, HTML):
        paths += [f"/records/{one.id}" for one in _of(store, text)]
    many = {
        f"property_{n}_{'x' * (n % 40)}": [n, "v" * n, None, {"a": [RTL, {"b": HTML}]}, ""][n % 5] for n in range(200)
    }
    [two_hundred] = keep(store, record(100, properties=many, raw={"properties": many}), latency_ms=123_456)
    for number in range(500):
        side, window = ("browser", "server")[number % 3 == 0], (None, ID, "b", "c")[number % 4]
        keep(store, record(200 + number * 7, name=f"event {number}", side=side, session_id="long", window_id=window))
    for number, (name, amounts) in enumerate(AMOUNTS.items()):
        for step, amount in enumerate(amounts):
            keep(store, goal(number + 600 * step, amount, name=name))
    return [*paths, f"/records/{two_hundred.id}", "/sessions/long", *(f"/goals/{name}" for name in AMOUNTS)]


def _of(store: Store, text: str) -> list[InspectedRecord]:
    """Records with a text wherever there is place for one: one that is taken, one that is refused, a goal."""
    ids = {"session_id": text, "window_id": text, "user_id": text, "visitor_id": text}
    told = {"properties": {text: {text: [text]}, "text": text}, "raw": {text: text}, "page_url": text, **ids}
    call = {"headers": [("user-agent", text), (text[:50], text)], "body": text.encode(), "reply": text.encode()}
    kept = keep(store, record(name=text, warnings=[text], **told), fault=text, **call)
    kept += keep(store, record(1, name=text, accepted=False, errors=[text], **told), status=400, **call)
    return kept + keep(store, goal(2, 12.5, name=text, session_id=text))
