"""Rules that recognise a person's visit to a page by the request's headers."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["HEADERS", "is_bot", "is_page_visit"]

HEADERS = (
    "purpose",
    "x-purpose",
    "x-moz",
    "sec-purpose",
    "x-sec-purpose",
    "hx-preloaded",
    "turbo-frame",
    "x-turbo-request-id",
    "x-pjax",
    "hx-request",
    "hx-boosted",
    "hx-history-restore-request",
    "x-requested-with",
    "sec-fetch-dest",
    "sec-fetch-mode",
)
"""Headers that `is_page_visit` reads."""

# Headers of prefetches and prerenders. `Sec-Purpose` is standard (https://wicg.github.io/nav-speculation/prefetch.html),
# `X-Sec-Purpose` is Turbo's (https://turbo.hotwired.dev/handbook/drive), the others are those of older browsers.
_PURPOSES = ("sec-purpose", "purpose", "x-purpose", "x-moz", "x-sec-purpose")
_SPECULATIVE = re.compile(r"prefetch|prerender|preview|preload|instant", re.IGNORECASE)
# Android's WebView sends the name of its app, also for pages.
_SCRIPTS = frozenset({"xmlhttprequest", "fetch"})

# Names of bots: nearly all contain bot, crawler or spider. Cubot makes telephones.
_BOT = re.compile(
    r"(?<!cu)bots?(?![a-z])|crawl|spider|slurp|scrap(?:er|y)|archiver|headless|lighthouse|pagespeed"
    r"|facebookexternalhit|facebookcatalog|meta-external|mediapartners|adsbot|feedfetcher|google-(?:read|inspection)"
    r"|googleother|embedly|quora link|whatsapp/|skypeuripreview|bingpreview|ia_archiver|pingdom|statuscake|uptime"
    r"|site24x7|datadog|newrelicpinger|checkly|gtmetrix|validator|linkcheck|nagios|zabbix|kube-probe"
    r"|health[- ]?check|googlehc|phantomjs|puppeteer|playwright"
    r"|chatgpt-user|claude-|perplexity-|anthropic-ai|cohere-ai",
    re.IGNORECASE,
)


def is_page_visit(headers: Mapping[str, str]) -> bool:
    """Return whether a GET request loads a whole page for a person.

    Excluded are prefetches and prerenders, frames and embedded documents, fragments (htmx, Turbo Frames, pjax), and
    fetches by scripts. Included are navigations that a script performs instead of the browser: htmx's boosted links
    and restored history (https://htmx.org/reference/#request_headers), and Turbo Drive's visits.

    Args:
        headers: Values by lower-case name; those in `HEADERS` are read.

    Example:
        >>> is_page_visit({"sec-fetch-dest": "document"}), is_page_visit({"sec-fetch-dest": "iframe"})
        (True, False)
    """
    get = headers.get
    if any((value := get(name)) and _SPECULATIVE.search(value) for name in _PURPOSES) or "hx-preloaded" in headers:
        return False
    if "turbo-frame" in headers or "x-pjax" in headers:
        return False
    if "hx-request" in headers:
        return _is_true(get("hx-boosted")) or _is_true(get("hx-history-restore-request"))
    if "x-turbo-request-id" in headers:
        return True
    if get("x-requested-with", "").strip().lower() in _SCRIPTS:
        return False
    # https://www.w3.org/TR/fetch-metadata/: browsers send these only to trustworthy origins, and old browsers never.
    return _is(get("sec-fetch-dest"), "document") and _is(get("sec-fetch-mode"), "navigate")


def is_bot(user_agent: str) -> bool:
    """Return whether a User-Agent names a bot: a crawler, a link preview, a monitor, an automated browser.

    Only those that identify themselves are recognised. An HTTP library does not count as a bot.

    Args:
        user_agent: The header; it may be empty.

    Example:
        >>> is_bot("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)")
        True
    """
    return _BOT.search(user_agent) is not None


def _is_true(value: str | None) -> bool:
    return value is not None and value.strip().lower() == "true"


def _is(value: str | None, expected: str) -> bool:
    """Return whether a header has this value or is missing."""
    return value is None or value.strip().lower() == expected
