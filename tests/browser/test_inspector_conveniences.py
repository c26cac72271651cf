"""Conveniences of the inspector: keys, copies, the way back, and the way to what is newest."""

import re

import pytest
from playwright.sync_api import Page, expect

from sessionsight.inspector.server import RunningInspector
from tests.browser.conftest import Window
from tests.browser.looking import live
from tests.core.inspector.samples import WINDOW, keep, record

pytestmark = pytest.mark.browser


def copied(page: Page) -> str:
    return str(page.evaluate("navigator.clipboard.readText()"))


def test_keys_lead_from_a_record_to_its_neighbours_and_back_to_what_was_looked_at(
    window: Window, inspector: RunningInspector
) -> None:
    keep(inspector.store, *(record(number, name=f"event {number}", raw={"n": number}) for number in range(3)))
    page = live(window.open("/?vendor=signal"))
    for key, title in (("j", "event 2"), ("Enter", "event 2"), ("j", "event 1"), ("j", "event 0"), ("k", "event 1")):
        page.keyboard.press(key)
        heading = page.locator("h1").filter(has_text=title)
        expect(heading.or_(page.locator("a:focus").filter(has_text=title))).to_be_visible()
    page.keyboard.press("u")
    expect(page).to_have_url(re.compile(r"/\?vendor=signal$"))


def test_the_keys_are_listed_and_can_be_switched_off(window: Window, inspector: RunningInspector) -> None:
    keep(inspector.store, record(name="first"))
    page = live(window.open())
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard")
    expect(dialog).to_be_visible()
    page.keyboard.press("j")
    page.get_by_label("Single keys are on").uncheck()
    page.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()
    for key in ("j", "p", "?"):
        page.keyboard.press(key)
    expect(page.locator("a[data-row]:focus")).to_have_count(0)
    expect(page.locator("#pause")).to_have_text("Pause")
    expect(dialog).to_be_hidden()

    page.reload()
    live(page).get_by_role("button", name="Keyboard").click()
    page.get_by_label("Single keys are on").check()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    expect(page.locator("a[data-row]:focus")).to_have_text("first")


def test_ids_json_and_the_address_of_a_view_are_copied(window: Window, inspector: RunningInspector) -> None:
    ids = {"session_id": "s-1", "user_id": "<user>", "window_id": WINDOW}
    [shown] = keep(inspector.store, record(raw={"plan": "pro"}, **ids), body=b'{"a": 1}')
    page = live(window.open("/?user=%3Cuser%3E", permissions=["clipboard-read", "clipboard-write"]))
    page.add_init_script("window.setTimeout = () => 0")  # or the word is gone before a busy machine has seen it
    page.reload()
    live(page).get_by_role("button", name="Copy the URL of this view").click()
    expect(page.locator("#said")).to_have_text("Copied")
    assert copied(page) == f"{inspector.url}/?user=%3Cuser%3E"

    page.goto(f"/records/{shown.id}")
    live(page)
    for what, text in (("session", "s-1"), ("user", "<user>"), ("window", WINDOW)):
        button = page.get_by_role("button", name=f"Copy the {what}'s id")
        button.click()
        expect(button).to_have_class(re.compile("done"))
        assert copied(page) == text
    page.get_by_role("button", name="Copy the record as JSON").click()
    expect(page.get_by_role("button", name="Copy the record as JSON")).to_have_text("Copied")
    assert copied(page) == '{\n  "plan": "pro"\n}'
    page.get_by_text("The same as a curl command").click()
    page.get_by_role("button", name="Copy the curl command").click()
    expect(page.get_by_role("button", name="Copy the curl command")).to_have_text("Copied")
    assert copied(page).startswith(f"curl -X POST {inspector.url}/v1/capture")


def test_a_button_leads_to_rows_that_have_come_out_of_sight(window: Window, inspector: RunningInspector) -> None:
    keep(inspector.store, *(record(number) for number in range(60)))
    page = live(window.open())
    newest = page.locator("#newest")
    page.evaluate("scrollTo(0, 1000)")
    keep(inspector.store, record(61, name="unseen"))
    expect(newest).to_have_text("1 newer")
    newest.click()
    expect(newest).to_be_hidden()
    assert page.evaluate("scrollY") == 0

    page.get_by_role("link", name="Older").click()
    expect(page).to_have_url(re.compile("before="))
    live(page)
    keep(inspector.store, record(62, name="unseen as well"))
    expect(newest).to_have_text("1 newer")
    page.keyboard.press("g")
    expect(page.locator("#records a[data-row]").first).to_have_text("unseen as well")
    expect(page).to_have_url(f"{inspector.url}/")


def test_the_title_counts_what_has_come_while_paused(window: Window, inspector: RunningInspector) -> None:
    keep(inspector.store, record())
    page = live(window.open())
    page.get_by_role("button", name="Pause").click()
    keep(inspector.store, record(1))
    expect(page).to_have_title("(1) Stream · sessionsight inspector")
    page.get_by_role("button", name="Resume").click()
    expect(page).to_have_title("Stream · sessionsight inspector")


def test_a_step_and_its_mark_light_each_other_up(window: Window, inspector: RunningInspector) -> None:
    keep(inspector.store, *(record(number, session_id="s") for number in range(3)))
    page = live(window.open("/sessions/s"))
    page.locator(".lane a").nth(1).hover()
    expect(page.locator("#steps .row.lit")).to_have_count(1)
    page.locator("#steps .open").nth(2).focus()
    expect(page.locator(".lane a.lit")).to_have_attribute("href", re.compile(r"#step-3$"))
