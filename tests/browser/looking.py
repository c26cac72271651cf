"""Measurable checks of a page's appearance."""

from typing import Any

from playwright.sync_api import Page

__all__ = ["WIDTHS", "faint_by_scheme", "live", "misplaced", "small", "width_of"]

WIDTHS = (380, 1280)
"""Widths of a phone and of a window, in pixels."""


def live(page: Page) -> Page:
    """The inspector's page, once it listens to the stream."""
    page.locator("#live[data-state=live]").wait_for()
    return page


def width_of(page: Page) -> tuple[int, int]:
    """How wide the page is, and how wide the window."""
    wide, there = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    return wide, there


def faint_by_scheme(page: Page) -> dict[str, list[str]]:
    """Return, in each color scheme, the texts and fields with less contrast than WCAG level AA.

    That is 4.5 to 1 for text, 3 to 1 for borders.
    """
    found = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found[scheme] = _listed(page.evaluate(_FAINT))
    return found


def small(page: Page, least: int = 36) -> list[str]:
    """Return the controls outside of running text that are less high, in pixels, than a finger needs."""
    return _listed(page.evaluate(_SMALL, least))


def misplaced(page: Page) -> list[str]:
    """Return accessibility problems of a screen reader: missing or repeated landmarks, controls without a name."""
    return _listed(page.evaluate(_MISPLACED))


def _listed(found: Any) -> list[str]:
    return [str(one) for one in found]


_FAINT = """() => {
  const channels = (color) => (color.match(/[\\d.]+/g) ?? []).map(Number);
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = channels(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const contrast = (one, other) => {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const found = [];
  for (const element of document.querySelectorAll("body *:not(script)")) {
    const shown = element.getClientRects().length && !element.closest("[aria-hidden=true]:not(kbd), title, .hidden");
    if (!shown) continue;
    const style = getComputedStyle(element);
    const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.nodeValue.trim());
    if (text) {
      const ratio = contrast(channels(element instanceof SVGElement ? style.fill : style.color), behind(element));
      if (ratio < 4.5) found.push(`${element.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
    }
    if (element.matches("select, input:not([type=radio], [type=checkbox], [type=hidden])")) {
      const placeholder = channels(getComputedStyle(element, "::placeholder").color);
      const edge = contrast(channels(style.borderTopColor), behind(element.parentElement));
      if (contrast(placeholder, behind(element)) < 4.5) found.push(`${element.name}'s placeholder`);
      if (edge < 3) found.push(`${element.name}'s edge ${edge.toFixed(2)}`);
    }
  }
  return found;
}"""

_SMALL = """(least) => {
  const fields = "select, input:not([type=radio], [type=checkbox])";
  const controls = `button, summary, nav a, label:has(> input), .tabs > label, ${fields}`;
  return [...document.querySelectorAll(controls)]
    .filter((control) => control.getClientRects().length && control.getBoundingClientRect().height < least)
    .map((control) => `${control.outerHTML.slice(0, 80)} is ${control.offsetHeight} high`);
}"""

_MISPLACED = """() => {
  const found = [];
  for (const once of ["h1", "main", "body > header", "body > footer", "title", "nav[aria-label]"]) {
    if (!document.querySelector(once)) found.push(`there is no ${once}`);
  }
  for (const once of ["h1", "main"]) {
    if (document.querySelectorAll(once).length > 1) found.push(`there is more than one ${once}`);
  }
  if (!document.documentElement.lang) found.push("there is no language");
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) found.push(`the id ${id} stands twice`);
  const named = "button, a[href], input:not([type=hidden]), select, summary, nav, dialog, [role=img], [role=region]";
  for (const element of document.querySelectorAll(named)) {
    if (element.hidden) continue;
    const labels = [...(element.labels ?? [])].map((label) => label.textContent);
    const by = document.getElementById(element.getAttribute("aria-labelledby"))?.textContent;
    const own = element.matches("nav, [role]") ? "" : element.textContent;
    const name = [element.getAttribute("aria-label"), by, own, ...labels].join("");
    if (!name.trim()) found.push(`${element.outerHTML.slice(0, 80)} has no name`);
  }
  return found;
}"""
