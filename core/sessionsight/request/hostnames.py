"""Parses the host name of a URL as browsers do, like `new URL(url).hostname` in the vendors' SDKs.

Source: the URL standard, https://url.spec.whatwg.org/#url-parsing and #host-parsing. Python's `urlsplit` follows
RFC 3986, and reads backslashes, line breaks, numbers as addresses and international names differently.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from sessionsight.late_import import late_import

__all__ = ["hostname"]

_SPECIAL = frozenset({"ftp", "file", "http", "https", "ws", "wss"})
# A fast path for nearly all URLs. The last label starts with a letter, so that the host cannot be a number.
_PLAIN = re.compile(
    r"https?://((?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*)(?::[0-9]{1,4})?(?![^/?#\\])", re.IGNORECASE | re.ASCII
)
_C0_AND_SPACE = "".join(map(chr, range(0x21)))
_REMOVED = str.maketrans("", "", "\t\n\r")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE | re.ASCII)
_SPECIAL_AUTHORITY = re.compile(r"[/\\]*([^/\\?#]*)")
_FILE_AUTHORITY = re.compile(r"[/\\]{2}([^/\\?#]*)")
_OTHER_AUTHORITY = re.compile(r"//([^/?#]*)")
_DRIVE_LETTER = re.compile(r"[A-Za-z][:|]")
# A colon inside brackets belongs to an IPv6 address.
_HOST_AND_PORT = re.compile(r"((?:[^:\[]|\[[^\]]*(?:\]|\Z))*)(?::(.*))?", re.DOTALL)
_FORBIDDEN = re.compile(r"[\x00\t\n\r #/:<>?@\[\\\]^|]")
_FORBIDDEN_IN_DOMAIN = re.compile(r"[\x00-\x20#/:<>?@\[\\\]^|%\x7f]")
_ZEROS = re.compile(r"(?<![0-9a-f])0(?::0)+(?![0-9a-f])")


@lru_cache(maxsize=128)  # a site has few hosts, and many visitors have the same referrers
def hostname(url: str) -> str:
    """Return the host of an absolute URL, without port, user name and password.

    The host of a web URL is in lower case and in ASCII, an IPv6 address is in brackets. The host of another scheme is
    returned unchanged.

    Args:
        url: A foreign URL, such as a referrer.

    Returns:
        The host, empty if there is none (no scheme, a relative path, `mailto:`) or if a browser would reject the URL.

    Example:
        >>> hostname("https://Bücher.example:8443/neu"), hostname("http://0x7f.1/"), hostname("/orders")
        ('xn--bcher-kva.example', '127.0.0.1', '')
    """
    if (plain := _PLAIN.match(url)) is not None and "xn--" not in (host := plain[1].lower()):
        return host
    url = url.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    try:
        return _hostname(url.strip(_C0_AND_SPACE).translate(_REMOVED))
    except ValueError:  # also raised by ipaddress, punycode and idna
        return ""


def _hostname(url: str) -> str:
    scheme = _SCHEME.match(url)
    if scheme is None:
        return ""
    name, rest = scheme[1].lower(), url[scheme.end() :]
    if name == "file":
        found = _FILE_AUTHORITY.match(rest)
        if found is None or not found[1] or _DRIVE_LETTER.fullmatch(found[1]):
            return ""
        host = _web_host(found[1])
        return "" if host == "localhost" else host
    special = name in _SPECIAL
    authority = (_SPECIAL_AUTHORITY if special else _OTHER_AUTHORITY).match(rest)
    if authority is None:
        return ""
    parts = _HOST_AND_PORT.fullmatch(authority[1].rpartition("@")[2])
    if parts is None or not parts[1] or not _is_port(parts[2] or ""):
        return ""
    return _web_host(parts[1]) if special else _other_host(parts[1])


def _is_port(port: str) -> bool:
    digits = port.lstrip("0")
    return not port or (port.isascii() and port.isdecimal() and len(digits) <= 5 and int(digits or "0") < 2**16)


def _web_host(host: str) -> str:
    """Return the host of http, https, ws, wss, ftp and file. Raises `ValueError` if a browser would reject it."""
    if host.startswith("["):
        return _ipv6(host)
    domain = unquote_to_bytes(host.encode()).decode("utf-8", "replace").lower()
    if not domain.isascii() or "xn--" in domain:
        domain = _to_ascii(domain)
    if not domain or _FORBIDDEN_IN_DOMAIN.search(domain):
        raise ValueError(host)
    labels = domain.removesuffix(".").split(".")
    return _ipv4(labels) if _is_number(labels[-1]) else domain


def _other_host(host: str) -> str:
    """Return the host of any other scheme, uninterpreted. Raises `ValueError` if a browser would reject it."""
    if host.startswith("["):
        return _ipv6(host)
    if _FORBIDDEN.search(host):
        raise ValueError(host)
    return quote(host.encode(), safe=_PRINTABLE)


def _ipv6(host: str) -> str:
    if not host.endswith("]") or "%" in host:
        raise ValueError(host)
    number = int(ipaddress.IPv6Address(host[1:-1]))
    text = ":".join(f"{number >> shift & 0xFFFF:x}" for shift in range(112, -1, -16))
    zeros = max(_ZEROS.findall(text), key=len, default=None)
    if zeros is not None:
        before, _, after = text.partition(zeros) if text.startswith(zeros) else text.partition(f":{zeros}")
        text = f"{before}::{after.removeprefix(':')}"
    return f"[{text}]"


def _is_number(label: str) -> bool:
    if label.isdecimal():
        return True
    return label.startswith("0x") and not label[2:].strip("0123456789abcdef")


def _ipv4(labels: list[str]) -> str:
    if len(labels) > 4:
        raise ValueError(labels)
    *first, last = map(_number, labels)
    if max(first, default=0) > 255 or last >= 256 ** (4 - len(first)):
        raise ValueError(labels)
    for position, number in enumerate(first):
        last += number << 8 * (3 - position)
    return str(ipaddress.IPv4Address(last))


def _number(label: str) -> int:
    if not label or not label.isalnum():  # `int` would accept signs and underscores
        raise ValueError(label)
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") else 10)


def _to_ascii(domain: str) -> str:
    """Apply UTS #46 as the URL standard does: https://url.spec.whatwg.org/#concept-domain-to-ascii."""
    with late_import():
        import idna  # only for hosts that are not ASCII
    labels = []
    for label in idna.uts46_remap(domain, std3_rules=False).split("."):
        if label.startswith("xn--"):
            decoded = label[4:].encode("ascii").decode("punycode")
            if decoded.isascii() or decoded.encode("punycode").decode() != label[4:]:
                raise ValueError(label)
            labels.append(decoded)
        else:
            labels.append(label)
    bidi = any(unicodedata.bidirectional(character) in {"R", "AL", "AN"} for character in domain + "".join(labels))
    for label in filter(None, labels):
        if idna.uts46_remap(label, std3_rules=False) != label:
            raise ValueError(label)
        idna.check_initial_combiner(label)
        for position, character in enumerate(label):
            if character in "\u200c\u200d" and not idna.valid_contextj(label, position):
                raise ValueError(label)
        if bidi:
            idna.check_bidi(label, check_ltr=True)
    return ".".join(label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels)


_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
