"""The inspector's pages in a real browser: live, by keyboard, on a phone, in the dark, and under attack."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from scripts.screenshots import SESSION, fill
from sessionsight.inspector.server import RunningInspector
from tests.browser.conftest import Window
from tests.browser.looking import live, width_of
from tests.core.inspector.samples import goal, keep, record

pytestmark = pytest.mark.browser


def names(page: Page) -> Locator:
    return page.locator("#records a[data-row]")


def test_records_appear_as_they_arrive_and_focus_stays(window: Window, inspector: RunningInspector) -> None:
    keep(inspector.store, record(name="first"))
    page = live(window.open())
    names(page).first.focus()
    keep(inspector.store, record(1, name="second"))
    expect(names(page)).to_have_text(["second", "first"])
    expect(page.locator("#records a:focus")).to_have_text("first")
    expect(page.locator("#counts")).to_contain_text("2 records")
    expect(page.locator("#records .row").first).to_have_class(re.compile("fresh"))


def test_an_empty_stream_fills_itself_and_empties_when_it_is_cleared(
    window: Window, inspector: RunningInspector
) -> None:
    page = live(window.open())
    page.get_by_text("Nothing has arrived yet").wait_for()
    keep(inspector.store, record(name="first"))
    expect(names(page)).to_have_text(["first"])
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("Nothing has arrived yet").wait_for()


def test_a_paused_stream_counts_and_catches_up(window: Window, inspector: RunningInspector) -> None:
    keep(inspector.store, record(name="first"))
    page = live(window.open())
    page.keyboard.press("p")
    expect(page.get_by_role("button", name="Resume")).to_have_attribute("aria-pressed", "true")
    keep(inspector.store, record(name="second"))
    keep(inspector.store, record(name="third"))
    expect(page.locator("#live-text")).to_have_text("2 new")
    expect(names(page)).to_have_text(["first"])
    page.get_by_role("button", name="Resume").click()
    expect(names(page)).to_have_text(["third", "second", "first"])


def test_filters_apply_at_once_and_stand_in_the_address(window: Window, inspector: RunningInspector) -> None:
    keep(inspector.store, record(name="paid", properties={"plan": "pro"}, raw={"plan": "pro"}))
    keep(inspector.store, record(name="viewed", vendor="saytics"))
    keep(inspector.store, goal(name="sign-ups"))
    page = live(window.open())
    page.get_by_text("Signal", exact=False).first.click()
    expect(names(page)).to_have_text(["paid"])
    expect(page).to_have_url(re.compile(r"\?vendor=signal$"))
    page.get_by_role("link", name="Show all").wait_for()
    page.get_by_text("All", exact=True).click()
    page.get_by_role("link", name="Show all").wait_for(state="hidden")
    page.get_by_label("Text in a record").fill("PRO")
    expect(names(page)).to_have_text(["paid"])
    page.get_by_label("Text in a record").fill("")
    page.get_by_text("More filters").click()
    page.get_by_label("Kind").select_option("goal")
    expect(names(page)).to_have_text(["sign-ups"])
    expect(page).to_have_url(re.compile(r"/\?kind=goal$"))

    keep(inspector.store, record(name="not wanted"))
    keep(inspector.store, goal(name="wanted"))
    expect(names(page)).to_have_text(["wanted", "sign-ups"])
    page.reload()
    expect(names(page)).to_have_text(["wanted", "sign-ups"])
    expect(page.get_by_label("Kind")).to_have_value("goal")


def test_the_keyboard_reaches_everything(window: Window, inspector: RunningInspector) -> None:
    for number in range(3):
        keep(inspector.store, record(number, name=f"event {number}"))
    page = live(window.open())
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()
    page.keyboard.type("j/k")
    expect(page.locator("#search")).to_have_value("j/k")
    page.locator("#search").fill("")
    expect(names(page)).to_have_count(3)
    page.keyboard.press("Escape")
    for key, name in (("j", "event 2"), ("j", "event 1"), ("j", "event 0"), ("j", "event 0"), ("k", "event 1")):
        page.keyboard.press(key)
        expect(page.locator(":focus")).to_have_text(name)
    outline = page.locator(":focus").evaluate("link => getComputedStyle(link, '::after').outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("event 1")
    page.keyboard.press("/")
    expect(page.locator("#search")).to_be_focused()


def test_a_sessions_page_grows_with_the_session(window: Window, inspector: RunningInspector) -> None:
    keep(inspector.store, record(0, name="$pageview", side="browser", session_id="s", window_id="w"))
    page = live(window.open("/sessions/s"))
    keep(inspector.store, record(5, name="order_processed", session_id="s"))
    expect(page.locator("#steps a[data-row]")).to_have_text(["$pageview", "order_processed"])
    expect(page.locator(".lane a")).to_have_count(2)
    page.locator(".lane a").last.hover()
    expect(page.locator("#steps .row.lit")).to_contain_text("order_processed")
    page.locator(".lane a").last.click()
    expect(page).to_have_url(re.compile(r"#step-\d+$"))


def test_two_hundred_records_in_four_lanes_stay_apart(window: Window, inspector: RunningInspector) -> None:
    for number in range(200):
        side, lane = ("browser", "server")[number % 2], (None, "a", "b", "c")[number % 4]
        keep(inspector.store, record(number * 3, side=side, session_id="s", window_id=lane))
    page = live(window.open("/sessions/s"))
    boxes = page.locator(".lane a .mark :is(circle, path)").evaluate_all(
        "marks => marks.map(mark => { const box = mark.getBoundingClientRect(); return [box.x, box.y]; })"
    )
    assert len({(round(x / 3), round(y / 3)) for x, y in boxes}) == 200
    frame = page.locator(".timeline").bounding_box()
    assert frame is not None
    assert all(frame["x"] <= x and x + 16 <= frame["x"] + frame["width"] for x, _ in boxes)


def test_a_session_of_many_windows_fits_on_a_phone(window: Window, inspector: RunningInspector) -> None:
    for number in range(40):
        keep(inspector.store, record(number, session_id="s", window_id=f"window {number % 10}" if number % 3 else None))
    page = live(window.open("/sessions/s", width=380))
    wide, there = width_of(page)
    assert wide <= there
    name = page.locator("#steps .open").first.bounding_box()
    assert name is not None
    assert name["width"] > 80


def test_the_faults_form_works_and_says_what_is_wrong(window: Window, inspector: RunningInspector) -> None:
    page = live(window.open("/health"))
    page.get_by_label("Failures").fill("often")
    with page.expect_navigation():
        page.get_by_label("Failures").press("Enter")
    page.get_by_text("fail: must be written as").wait_for()
    page.get_by_label("Failures").fill("503:0.5")
    page.get_by_role("button", name="Apply").click()
    page.get_by_text("Applied").wait_for()
    expect(page.get_by_label("Failures")).to_have_value("503:0.5")
    # Chromium reports the page that was answered with 400, as it does each failed load.
    assert all("400 (Bad Request)" in complaint for complaint in window.complaints)
    window.complaints.clear()


def test_the_flags_form_works_and_says_what_is_wrong(window: Window, inspector: RunningInspector) -> None:
    page = live(window.open("/health"))
    flags = page.get_by_role("textbox", name="Flags")
    flags.fill("new-checkout")
    page.get_by_role("button", name="Set flags").click()
    page.get_by_text("flags: a line must be written as").wait_for()
    flags.fill("new-checkout = true\ncta-color = green")
    page.get_by_role("button", name="Set flags").click()
    page.get_by_text("Set", exact=True).wait_for()
    expect(flags).to_have_value("new-checkout = true\ncta-color = green")
    assert inspector.store.flags == {"new-checkout": True, "cta-color": "green"}
    assert all("400 (Bad Request)" in complaint for complaint in window.complaints)
    window.complaints.clear()


def test_without_a_script_all_is_there(window: Window, inspector: RunningInspector) -> None:
    fill(inspector)
    page = window.open(java_script_enabled=False)
    page.get_by_label("Text in a record").fill("monthly-revenue")
    page.locator("label", has_text="SessionSight").click()
    page.get_by_role("button", name="Filter").click()
    expect(names(page).first).to_have_text("monthly-revenue")
    names(page).first.click()
    page.get_by_role("link", name=SESSION).click()
    expect(page.locator("#steps .row")).not_to_have_count(0)
    for name in ("Sessions", "Goals", "Health"):
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        expect(page.locator("h1")).to_have_text(name)
    page.get_by_role("textbox", name="Latency").fill("1")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("textbox", name="Latency")).to_have_value("1")
    page.goto("/")
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("Nothing has arrived yet").wait_for()
    page.locator("label", has_text="Flask").click()
    expect(page.locator("#snippet-flask")).to_be_visible()
    expect(page.locator("#snippet-django")).to_be_hidden()


def test_lines_are_copied(window: Window, inspector: RunningInspector) -> None:
    page = live(window.open(permissions=["clipboard-read", "clipboard-write"]))
    page.evaluate("window.setTimeout = () => 0")  # or the word is gone before a busy machine has seen it
    page.get_by_role("button", name="Copy lines for Django").click()
    expect(page.get_by_role("button", name="Copy lines for Django")).to_have_text("Copied")
    assert f'INSPECTOR = "{inspector.url}"' in page.evaluate("navigator.clipboard.readText()")
