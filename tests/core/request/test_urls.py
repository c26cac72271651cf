from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.request.urls import quote_path, sanitize_url, utm_parameters, utm_query


@given(st.binary())
def test_a_quoted_path_is_ascii_and_reversible(path: bytes) -> None:
    quoted = quote_path(path)
    assert quoted.isascii()
    assert quoted.isprintable()
    assert unquote_to_bytes(quoted) == path
    assert not set(quoted) & set(' "#<>?^`{}\\')


@pytest.mark.parametrize(
    ("path", "quoted"),
    [
        (b"/a/b-c_d.e~f", "/a/b-c_d.e~f"),
        (b"/@user;v=1,2", "/@user;v=1,2"),
        (b"/100%", "/100%25"),
        (b"/a?b#c", "/a%3Fb%23c"),
        (b"/a\\b", "/a%5Cb"),
    ],
)
def test_a_path_is_quoted_as_a_browser_does(path: bytes, quoted: str) -> None:
    assert quote_path(path) == quoted


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", ""),
        ("a=1&b=2", ""),
        ("utm_source=x", "utm_source=x"),
        ("token=1&utm_source=a%20b&x=2&utm_id=7", "utm_source=a%20b&utm_id=7"),
        ("xutm_source=1", ""),
    ],
)
def test_only_utm_parameters_of_a_query_are_kept(query: str, kept: str) -> None:
    assert utm_query(query) == kept


@pytest.mark.parametrize(
    ("url", "cut"),
    [
        ("https://a.example/x", "https://a.example/x"),
        ("https://a.example/x?token=1&utm_source=s#f", "https://a.example/x?utm_source=s"),
        ("https://a.example/x#f?token=1", "https://a.example/x"),
        ("https://user:pass@a.example/x", "https://a.example/x"),
        ("https://user:p@ss@a.example/x", "https://a.example/x"),
        ("//user:pass@a.example/x", "//a.example/x"),
        ("https:\\\\user:pass@a.example/x", "https:\\\\a.example/x"),
        ("https:user:pass@a.example/x", "https:a.example/x"),
        ("HTTPS:/user:pass@a.example/x", "HTTPS:/a.example/x"),
        ("https:///user:pass@a.example/x", "https:///a.example/x"),
        ("app://user:pass@a.example/x", "app://a.example/x"),
        ("https://user:pass@[bad/x?y", "https://[bad/x"),
        ("https://a.example/@ada", "https://a.example/@ada"),
        ("/relative?token=1", "/relative"),
        ("mailto:ada@a.example?subject=x", "mailto:ada@a.example"),
        ("", ""),
    ],
)
def test_sanitize_url_removes_query_and_credentials(url: str, cut: str) -> None:
    assert sanitize_url(url) == cut


@given(st.text())
def test_sanitize_url_never_raises_and_removes_the_fragment(url: str) -> None:
    assert "#" not in sanitize_url(url)
    assert all(pair.startswith("utm_") for pair in sanitize_url(url).partition("?")[2].split("&") if pair)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {}),
        ("utm_source=a&utm_source=b", {"utm_source": "a"}),
        ("utm_source=&utm_source=b", {"utm_source": "b"}),
        ("utm_source", {}),
        ("utm_medium=a+b%20c", {"utm_medium": "a b c"}),
        ("utm_term=%C3%A4", {"utm_term": "ä"}),
        ("utm_term=%FF", {"utm_term": "\ufffd"}),
        ("utm_term=%zz", {"utm_term": "%zz"}),
        ("utm_id=1&UTM_SOURCE=a", {}),
        ("utm_content=a=b", {"utm_content": "a=b"}),
    ],
)
def test_utm_parameters_are_read_from_the_query(query: str, found: dict[str, str]) -> None:
    assert utm_parameters(query) == found
