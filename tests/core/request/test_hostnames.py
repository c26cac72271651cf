"""The hosts of unusual URLs, as `new URL(url).hostname` returns them; empty where it throws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionsight.request.hostnames import hostname

# The values are those of Node 20, which the vendors' SDKs run on.
ADDRESSES = [
    ("https://xn--strae-oqa.example", "xn--strae-oqa.example"),
    ("https://xn--wca.example", ""),  # an upper-case letter, which a browser would have encoded in lower case
    ("https://xn--jm6c.example", ""),  # a ligature
    ("https://shop.example/x", "shop.example"),
    ("https://Shop.EXAMPLE:8443/a", "shop.example"),
    ("HTTPS://shop.example", "shop.example"),
    ("hTTp:shop.example", "shop.example"),
    ("http:/shop.example/x", "shop.example"),
    ("http:\\\\shop.example\\x", "shop.example"),
    ("http:///shop.example", "shop.example"),
    ("http:////\\\\/shop.example", "shop.example"),
    ("https://shop.example\\@evil.example/", "shop.example"),
    ("https://user:pass@shop.example:8443/x@y", "shop.example"),
    ("https://a@b@shop.example/", "shop.example"),
    ("https://@shop.example/", "shop.example"),
    ("https://user@/x", ""),
    ("https://:pass@shop.example", "shop.example"),
    ("https://shop.example:/x", "shop.example"),
    ("https://shop.example:0/", "shop.example"),
    ("https://shop.example:65535", "shop.example"),
    ("https://shop.example:65536", ""),
    ("https://shop.example:080", "shop.example"),
    ("https://shop.example:80a", ""),
    ("https://shop.example:-1", ""),
    ("https://:80/", ""),
    ("https://", ""),
    ("https:///", ""),
    ("http:", ""),
    ("https://?q", ""),
    ("https://#f", ""),
    ("https://shop.example?x=1", "shop.example"),
    ("https://shop.example#x", "shop.example"),
    ("https://shop.example./", "shop.example."),
    ("https://shop.example../", "shop.example.."),
    ("https://.shop.example", ".shop.example"),
    ("https://shop..example/", "shop..example"),
    ("https://./", "."),
    ("https://../", ".."),
    ("https://-a-.example", "-a-.example"),
    ("https://a_b.example", "a_b.example"),
    ("https://a%41.example", "aa.example"),
    ("https://%73hop.example", "shop.example"),
    ("https://shop%2eexample", "shop.example"),
    ("https://shop%2Fevil.example", ""),
    ("https://shop%00.example", ""),
    ("https://shop%zz.example", ""),
    ("https://shop%.example", ""),
    ("https://shop%20a.example", ""),
    ("https://sh op.example", ""),
    ("https://shop<.example", ""),
    ("https://shop>.example", ""),
    ("https://shop|.example", ""),
    ("https://shop^.example", ""),
    ("https://shop{}.example", "shop{}.example"),
    ("https://shop!$&'()*+,;=.example", "shop!$&'()*+,;=.example"),
    ("https://shop`.example", "shop`.example"),
    ('https://shop".example', 'shop".example'),
    ("https://shop[.example", ""),
    ("https://[2001:DB8::1]:80/", "[2001:db8::1]"),
    ("https://[::]", "[::]"),
    ("https://[::1", ""),
    ("https://[::1]x/", ""),
    ("https://[1:2:3:4:5:6:7:8]", "[1:2:3:4:5:6:7:8]"),
    ("https://[1:0:0:2:0:0:0:3]", "[1:0:0:2::3]"),
    ("https://[1:0:2:0:3:0:4:0]", "[1:0:2:0:3:0:4:0]"),
    ("https://[0:0:1:1:0:0:1:1]", "[::1:1:0:0:1:1]"),
    ("https://[::ffff:192.0.2.1]", "[::ffff:c000:201]"),
    ("https://[::192.0.2.1]", "[::c000:201]"),
    ("https://[::1%25eth0]", ""),
    ("https://[1:2:3:4:5:6:7::]", "[1:2:3:4:5:6:7:0]"),
    ("https://[::2:3:4:5:6:7:8]", "[0:2:3:4:5:6:7:8]"),
    ("https://[1::2::3]", ""),
    ("https://[12345::]", ""),
    ("https://[::01.2.3.4]", ""),
    ("https://[]", ""),
    ("https://user@[::1]:8080/x", "[::1]"),
    ("http://192.168.0.1/", "192.168.0.1"),
    ("http://192.168.0.1./", "192.168.0.1"),
    ("http://192.168.0.1../", "192.168.0.1.."),
    ("http://3232235521/", "192.168.0.1"),
    ("http://0xC0A80001", "192.168.0.1"),
    ("http://0xc0.0xA8.0.0x1", "192.168.0.1"),
    ("http://0300.0250.0.01", "192.168.0.1"),
    ("http://192.168.1", "192.168.0.1"),
    ("http://192.11010305", "192.168.1.1"),
    ("http://127.1/", "127.0.0.1"),
    ("http://0x", "0.0.0.0"),
    ("http://0x.0x.0", "0.0.0.0"),
    ("http://256.1.1.1", ""),
    ("http://1.2.3.4.5", ""),
    ("http://1.2.3.256", ""),
    ("http://4294967295", "255.255.255.255"),
    ("http://4294967296", ""),
    ("http://09.1.1.1", ""),
    ("http://1.2.3.08", ""),
    ("http://1.2.3.4x", "1.2.3.4x"),
    ("http://1.2.3.0x4g", "1.2.3.0x4g"),
    ("http://foo.0x4", ""),
    ("http://foo.1", ""),
    ("http://1.foo", "1.foo"),
    ("http://1..2", ""),
    ("http://%31%32%37.1", "127.0.0.1"),
    ("http://\uff11\uff12\uff17.0.0.1", "127.0.0.1"),
    ("http://+1.2.3.4", ""),
    ("http://1_0", "1_0"),
    ("http://00000000000000000000000000000000000177.1", "127.0.0.1"),
    ("https://b\xfccher.example/", "xn--bcher-kva.example"),
    ("https://B\xdcCHER.example/", "xn--bcher-kva.example"),
    ("https://fa\xdf.example", "xn--fa-hia.example"),
    ("https://\u03b5\u03bb\u03bb\u03ac\u03c2.example", "xn--hxarsa0b.example"),
    ("https://\u2603.example", "xn--n3h.example"),
    ("https://\U0001f600.example", "xn--e28h.example"),
    ("https://xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("https://XN--BCHER-KVA.example", "xn--bcher-kva.example"),
    ("https://xn--.example", ""),
    ("https://xn--a.example", ""),
    ("https://xn--zn7c.example", ""),
    ("https://xn--abc.example", ""),
    ("https://shop\u3002example", "shop.example"),
    ("https://shop\uff0eexample", "shop.example"),
    ("https://\uff53\uff48\uff4f\uff50.example", "shop.example"),
    ("https://sh\xadop.example", "shop.example"),
    ("https://\xad/", ""),
    ("https://\uff05\uff14\uff11.example", ""),
    ("https://\u2488.example", ""),
    ("https://a\u200cb.example", ""),
    ("https://\u0646\u0627\u0645\u0647\u200c\u0627\u06cc.example", "xn--mgba3gch31f060k.example"),
    ("https://\u0915\u094d\u200d\u0937.example", "xn--11b2ezcw70k.example"),
    ("https://\u05d0\u05d1.example", "xn--4dbc.example"),
    ("https://\u05d00a.example", ""),
    ("https://\ufffd.example", ""),
    ("https://\u2474.example", "(1).example"),
    ("https://\u65e5\u672c\u8a9e.jp:8080/\u30d1\u30b9", "xn--wgv71a119e.jp"),
    ("https://ExAmPle.com\u3002", "example.com."),
    ("https://\u2100.example", ""),
    ("https://1\xb27.1", "127.0.0.1"),
    ("https://a\u0310.example", "xn--a-scb.example"),
    ("https://\u0310a.example", ""),
    ("android-app://com.example.app/", "com.example.app"),
    ("android-app://com.Example.App/x", "com.Example.App"),
    ("ANDROID-APP://com.google.search/https/www.google.com", "com.google.search"),
    ("android-app:com.example", ""),
    ("android-app:/com.example/", ""),
    ("app://user@Host:80/", "Host"),
    ("app://host:99999/", ""),
    ("app://host:x/", ""),
    ("app://b\xfccher/", "b%C3%BCcher"),
    ("app://b%41/", "b%41"),
    ("app://a b/", ""),
    ("app://a^b/", ""),
    ("app://a<b", ""),
    ("app://a\\b/c", ""),
    ("app://[::1]:3/", "[::1]"),
    ("app://", ""),
    ("app:///x", ""),
    ("app://:80/", ""),
    ("chrome-extension://abcdef/x.html", "abcdef"),
    ("moz-extension://6f1d/", "6f1d"),
    ("ios-app://12345/", "12345"),
    ("mailto:a@shop.example", ""),
    ("tel:+123", ""),
    ("data:text/html,x", ""),
    ("about:blank", ""),
    ("about:client", ""),
    ("javascript:alert(1)", ""),
    ("blob:https://shop.example/uuid", ""),
    ("view-source:https://shop.example/", ""),
    ("file:///etc/passwd", ""),
    ("file://localhost/x", ""),
    ("file://Host/x", "host"),
    ("file://host:80/x", ""),
    ("file://C:/x", ""),
    ("file://C|/x", ""),
    ("file://user@host/x", ""),
    ("file:/x", ""),
    ("file:\\\\host\\x", "host"),
    ("ftp://ftp.example/", "ftp.example"),
    ("ws://s.example/", "s.example"),
    ("wss:s.example", "s.example"),
    ("//shop.example/x", ""),
    ("/orders", ""),
    ("orders/1", ""),
    ("shop.example/x", ""),
    ("shop.example:8080/x", ""),
    ("?x", ""),
    ("#x", ""),
    ("1http://x", ""),
    ("+http://x", ""),
    ("ht+tp://Foo", "Foo"),
    ("ht_tp://foo", ""),
    (":", ""),
    ("://x", ""),
    ("http//x", ""),
    ("", ""),
    (" https://shop.example", "shop.example"),
    ("\x00\x1f https://shop.example \x07", "shop.example"),
    ("ht\ntps://sh\top.exa\rmple/x", "shop.example"),
    ("https:\t/\n/shop.example", "shop.example"),
    ("\xa0https://shop.example", ""),
    ("https://shop.example\xa0", ""),
    ("https://shop\x7f.example", ""),
    ("https://shop\x01.example", ""),
    ("app://a\x01b/", "a%01b"),
    ("app://a\x7fb/", "a%7Fb"),
    ("https://a\ud800.example", ""),
    ("https://\ufeffshop.example", "shop.example"),
    ("https://shop\u200b.example", "shop.example"),
    ("https://a\u2028b.example", ""),
]  # fmt: skip

# Rejected by the standard, but not yet by Node 20.
REFUSED = [
    "https://0\u05d0.example",  # the bidi rule: https://www.rfc-editor.org/rfc/rfc5893#section-2
    "https://0a.\u05d0\u05d1",
    "https://xn--abc-.example",  # punycode of nothing but ASCII: https://www.unicode.org/reports/tr46/
]

LONG = [
    ("https://" + "a" * 300 + ".example", "a" * 300 + ".example"),
    ("https://" + "9" * 5000, ""),
    ("https://x:" + "9" * 5000, ""),
    ("https://x:" + "0" * 5000 + "80", "x"),
    ("http://0" + "7" * 5000, ""),
    ("https://" + "\xfc" * 5000 + ".example", ""),
    ("https://" + "[" * 5000, ""),
    ("https://" + "@" * 5000 + "x", "x"),
]


@pytest.mark.parametrize(("address", "host"), ADDRESSES, ids=[ascii(address) for address, _ in ADDRESSES])
def test_the_host_is_that_of_a_browser(address: str, host: str) -> None:
    assert hostname(address) == host


@pytest.mark.parametrize("address", REFUSED, ids=ascii)
def test_a_host_that_the_standard_rejects_is_empty(address: str) -> None:
    assert not hostname(address)


@pytest.mark.parametrize(("address", "host"), LONG, ids=range(len(LONG)))
def test_a_long_url_is_parsed(address: str, host: str) -> None:
    assert hostname(address) == host


_PIECES = st.sampled_from(
    ["http", "https", "app", "file", ":", "/", "//", "\\", "@", "[", "]", "::1", "127", "0x7f", "."]
)


@given(st.text() | st.lists(_PIECES | st.text(max_size=3)).map("".join))
def test_hostname_never_raises_and_a_web_host_is_ascii(address: str) -> None:
    host = hostname(address)
    assert host.isascii()
    assert not set(host) & set("/\\@?# \t\n")


@given(st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?(\.[a-z]{2,8}){1,3}", fullmatch=True), st.integers(0, 65535))
def test_other_parts_of_a_url_do_not_change_its_host(host: str, port: int) -> None:
    for address in (f"https://{host}", f"HTTP:\\\\{host.upper()}:{port}?@x", f" \thttps:u:p@{host}:{port}/@y"):
        assert hostname(address) == host
