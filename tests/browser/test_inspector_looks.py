"""How the inspector's pages look, as far as it can be measured: widths, contrast, sizes, names, and no complaints."""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from scripts.screenshots import SESSION, fill, fill_spool
from sessionsight.inspector.options import Options
from sessionsight.inspector.server import RunningInspector, run_in_thread
from tests.browser.conftest import Window
from tests.browser.hostile import EMOJI, HTML, ID, LONG, RTL, fill_with_hostile
from tests.browser.looking import WIDTHS, faint_by_scheme, live, misplaced, small, width_of
from tests.core.inspector.samples import keep, record

pytestmark = pytest.mark.browser

EMPTY = ["/", "/sessions", "/goals", "/health", "/nowhere"]
FULL = [*EMPTY[:-1], "/?kind=goal&text=rev", "/?text=nothing", f"/sessions/{SESSION}", "/goals/shop-revenue"]
OPEN = "for (const details of document.querySelectorAll('details')) details.open = true"


def told_by_status(window: Window) -> None:
    """Chromium complains of each page that is answered with 4xx; these are."""
    window.complaints = [one for one in window.complaints if not re.search("status of 40[04]", one)]


def test_every_page_is_legible_fits_a_phone_and_fingers_and_has_names(
    window: Window, inspector: RunningInspector
) -> None:
    page = window.open(width=380)

    def look_at(path: str) -> None:
        page.goto(path)
        live(page).evaluate(OPEN)
        wide, there = width_of(page)
        assert wide <= there, path
        assert faint_by_scheme(page) == {"light": [], "dark": []}, path
        assert small(page) == [], path
        assert misplaced(page) == [], path

    for path in EMPTY:
        look_at(path)
    fill(inspector)
    refused = next(one for one in inspector.store.since(0) if not one.accepted and one.raw)
    records = [f"/records/{one.id}" for one in (refused, *inspector.store.session(SESSION)[::7])]
    for path in (*FULL, *records):
        look_at(path)
    told_by_status(window)


def test_a_spool_is_legible_fits_a_phone_and_follows_its_store(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "analytics.db"
    fill_spool(path)
    with run_in_thread(Options(port=0, spool=str(path))) as inspector:
        window = Window(browser, inspector.url)
        page = live(window.open("/health", width=380))
        wide, there = width_of(page)
        assert wide <= there
        assert faint_by_scheme(page) == {"light": [], "dark": []}
        assert misplaced(page) == []
        assert page.evaluate(SPILLED) == []
        expect(page.locator("#spool tbody tr")).to_have_count(4)
        path.rename(tmp_path / "moved.db")
        expect(page.locator("#spool")).to_contain_text("the file does not exist")
        window.close()
    assert window.complaints == []


def test_whatever_is_sent_is_shown_as_text_and_fits(window: Window, inspector: RunningInspector) -> None:
    paths = fill_with_hostile(inspector.store)
    paths += [f"/{of}/{quote(text, safe='')}" for of in ("sessions", "goals") for text in (ID, RTL, EMOJI, HTML)]
    page = window.open()
    for path in paths:
        page.goto(path)
        live(page).evaluate(OPEN)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            wide, there = width_of(page)
            assert wide <= there, (path, width)
            assert page.evaluate(SPILLED) == [], (path, width)
        assert "owned" not in page.title()[:20], path
        assert page.locator("main :is(img, script, b)").count() == 0, path
    told_by_status(window)


@pytest.mark.parametrize("of", ["sessions", "goals"])
def test_very_long_ids_have_their_pages(window: Window, inspector: RunningInspector, of: str) -> None:
    fill_with_hostile(inspector.store)
    page = live(window.open(f"/{of}/{LONG}", width=380))
    wide, there = width_of(page)
    assert wide <= there
    expect(page.locator("h1")).to_contain_text("WWW")


def test_five_hundred_records_are_one_stop_for_the_tab_key_and_all_in_the_list(
    window: Window, inspector: RunningInspector
) -> None:
    fill_with_hostile(inspector.store)
    page = live(window.open("/sessions/long"))
    expect(page.locator(".lane a")).to_have_count(500)
    assert page.locator(".lane a").evaluate_all("marks => marks.every(mark => mark.tabIndex === -1)")
    expect(page.locator("#steps a[data-row]")).to_have_count(500)
    sides = page.locator(".lane a .mark").evaluate_all("marks => marks.map(mark => !!mark.querySelector('circle'))")
    assert sides.count(True) == sum(one.side == "browser" for one in inspector.store.session("long"))


def test_what_is_focused_has_an_outline(window: Window, inspector: RunningInspector) -> None:
    fill(inspector)
    page = window.open()
    for path in ("/", f"/sessions/{SESSION}", "/goals", "/health", "/records/1"):
        page.goto(path)
        live(page)
        for _ in range(14):
            page.keyboard.press("Tab")
            assert page.evaluate(OUTLINED), page.evaluate("document.activeElement.outerHTML")


def test_nothing_moves_for_those_who_ask_for_rest(window: Window, inspector: RunningInspector) -> None:
    keep(inspector.store, record(name="first"))
    page = live(window.open())
    keep(inspector.store, record(1, name="second"))
    page.locator(".row.fresh").wait_for()
    assert page.evaluate("document.getAnimations().length") == 0
    assert page.evaluate("getComputedStyle(document.querySelector('.row.fresh')).animationName") == "none"


SPILLED = """() => {
  const spilled = [];
  for (const box of document.querySelectorAll(".card, .tile, .row, .note, .head, .code, .lane-name, dd, dt")) {
    const { right } = box.getBoundingClientRect();
    for (const part of box.querySelectorAll("*:not(svg *, pre *, .hidden)")) {
      if (part.closest(".gist, .open, .who, .kind") || !part.getClientRects().length) continue;
      const edge = part.getBoundingClientRect().right;
      if (edge > right + 1) spilled.push(`${part.className || part.tagName} of ${box.className} by ${edge - right}`);
    }
    if (box.scrollWidth > box.clientWidth + 1 && getComputedStyle(box).overflowX === "visible" && box.clientWidth) {
      spilled.push(`${box.className || box.tagName}: ${box.textContent.trim().slice(0, 40)}`);
    }
  }
  return spilled;
}"""

OUTLINED = """() => {
  const drawn = (element, part) => {
    const style = element && getComputedStyle(element, part);
    return style && style.opacity === "1" && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  };
  const focused = document.activeElement;
  return focused === document.body || drawn(focused) || drawn(focused, "::after") || drawn(focused.nextElementSibling);
}"""
