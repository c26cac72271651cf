from __future__ import annotations

import pytest

from sessionsight.request.pageviews import is_bot, is_page_visit

NAVIGATION = {"sec-fetch-dest": "document", "sec-fetch-mode": "navigate"}
SCRIPT = {"sec-fetch-dest": "empty", "sec-fetch-mode": "cors"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        NAVIGATION,
        {"sec-fetch-dest": " Document "},
        {**SCRIPT, "hx-request": "true", "hx-boosted": "true"},
        {**SCRIPT, "hx-request": "true", "hx-history-restore-request": "true"},
        {**SCRIPT, "x-turbo-request-id": "1"},
        {**NAVIGATION, "x-requested-with": "com.example.app"},
        {**NAVIGATION, "purpose": ""},
        {**NAVIGATION, "sec-purpose": "something-new"},
    ],
)
def test_visits_are_recognised(headers: dict[str, str]) -> None:
    assert is_page_visit(headers)


@pytest.mark.parametrize("destination", ["iframe", "frame", "embed", "object", "empty", "image", "script", ""])
def test_only_a_document_is_a_page(destination: str) -> None:
    assert not is_page_visit({"sec-fetch-dest": destination})


@pytest.mark.parametrize("mode", ["cors", "no-cors", "same-origin", "websocket", ""])
def test_only_a_navigation_loads_a_page(mode: str) -> None:
    assert not is_page_visit({"sec-fetch-mode": mode})


@pytest.mark.parametrize("name", ["purpose", "x-purpose", "x-moz", "sec-purpose", "x-sec-purpose"])
@pytest.mark.parametrize(
    "value", ["prefetch", "Prefetch", "prefetch;prerender", "prefetch;anonymous-client-ip", "preview"]
)
@pytest.mark.parametrize("request_", [{}, NAVIGATION, {**SCRIPT, "hx-request": "true", "hx-boosted": "true"}])
def test_a_prefetch_is_not_a_visit(name: str, value: str, request_: dict[str, str]) -> None:
    assert not is_page_visit({**request_, name: value})


@pytest.mark.parametrize(
    "headers",
    [
        {"hx-request": "true"},
        {"hx-request": "true", "hx-boosted": "false"},
        {"hx-request": "true", "hx-history-restore-request": "false"},
        {"hx-request": "true", "hx-boosted": "true", "hx-preloaded": "true"},
        {"turbo-frame": "cart"},
        {"turbo-frame": "cart", "x-turbo-request-id": "1"},
        {"x-pjax": "true"},
        {"x-requested-with": "XMLHttpRequest"},
        {"x-requested-with": "fetch"},
    ],
)
def test_a_fragment_is_not_a_visit(headers: dict[str, str]) -> None:
    assert not is_page_visit(headers)


@pytest.mark.parametrize(
    "user_agent",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
        "Mozilla/5.0 (compatible; Yahoo! Slurp; http://help.yahoo.com/help/us/ysearch/slurp)",
        "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "Twitterbot/1.0",
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        "WhatsApp/2.23.20.0",
        "Mozilla/5.0 (compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0.0.0 Safari/537.36",
        "Mozilla/5.0 (Linux; Android 11; moto g) AppleWebKit/537.36 Chrome/109.0 Chrome-Lighthouse",
        "DuckDuckBot/1.1; (+http://duckduckgo.com/duckduckbot.html)",
        "kube-probe/1.29",
        "ELB-HealthChecker/2.0",
        "Amazon-Route53-Health-Check-Service (ref 1; report http://amzn.to/1vsZADi)",
        "GoogleHC/1.0",
        "Consul Health Check",
    ],
)
def test_a_bot_is_recognised_by_its_name(user_agent: str) -> None:
    assert is_bot(user_agent)


@pytest.mark.parametrize(
    "user_agent",
    [
        "",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0.0.0 Safari/537.36",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 Version/17.5 Safari/605.1.15",
        "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
        "Mozilla/5.0 (Linux; Android 10; CUBOT X30) AppleWebKit/537.36 Chrome/120.0 Mobile Safari/537.36",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/130.0 Safari/537.36 Edg/130.0.2849.68",
        "Opera/9.80 (Android; Opera Mini/7.5.35) Presto/2.8.119 Version/11.10",
        "python-httpx/0.28.1",
    ],
)
def test_a_browser_is_not_a_bot(user_agent: str) -> None:
    assert not is_bot(user_agent)
