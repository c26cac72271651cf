"""What is kept of an address: no credentials, no query but the campaign, no fragment."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, urlsplit

__all__ = ["UTM_FIELDS", "campaign", "domain_of", "page_url", "quote_path", "without_query"]

UTM_FIELDS = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")

# What the URL standard leaves bare in a path, beside letters, digits and "_.-~":
# https://url.spec.whatwg.org/#path-percent-encode-set
_PATH_SAFE = "/!$&'()*+,:;=@[]|\\"


def quote_path(path: bytes) -> str:
    """A decoded path as a browser would show it in the address."""
    return quote(path, safe=_PATH_SAFE)


def page_url(scheme: str, host: str, path: str, query: str) -> str:
    """The address of a page, with only the `utm_*` part of its query."""
    kept = _utm_part(query)
    return f"{scheme}://{host}{path}{'?' + kept if kept else ''}"


def without_query(url: str) -> str:
    """An address from outside, such as a referrer, cut in the same way.

    Text that is no absolute address is cut at the first `?` or `#`.
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return url.partition("#")[0].partition("?")[0]
    kept = _utm_part(parts.query)
    return parts._replace(netloc=host, query=kept, fragment="").geturl()


def campaign(query: str) -> dict[str, str]:
    """The five utm fields of a query, decoded; the first of each name counts, empty ones do not."""
    if "utm_" not in query:
        return {}
    found: dict[str, str] = {}
    for name, value in parse_qsl(query, errors="replace"):
        if name in UTM_FIELDS:
            found.setdefault(name, value)
    return found


def domain_of(url: str) -> str:
    """The host of an absolute address: lower case, no port, internationalised names in ASCII.

    Empty when there is none: no scheme, a relative path, `mailto:`.
    """
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname if parts.scheme else None
    except ValueError:
        return ""
    if not host:
        return ""
    if not host.isascii():
        import idna  # only for the rare host that is not ASCII already

        try:
            return idna.encode(host, uts46=True).decode("ascii")
        except idna.IDNAError:
            return ""
    return f"[{host}]" if ":" in host else host


def _utm_part(query: str) -> str:
    if "utm_" not in query:
        return ""
    return "&".join(pair for pair in query.split("&") if pair.startswith("utm_"))
