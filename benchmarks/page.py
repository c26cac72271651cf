"""Prints a table, and with `--page` also puts it into docs/performance.md, between the marks of its name."""

from __future__ import annotations

import re
import sys

from benchmarks.server import ROOT

PAGE = ROOT / "docs" / "performance.md"
IMAGE = ROOT / "docs" / "images" / "performance.svg"
PUBLISH = "--page"


def publish(name: str, *parts: str) -> None:
    """Print the parts, such as a heading and a table, and put them into the page if that is asked for.

    Raises:
        RuntimeError: The page has no marks of this name.
    """
    text = "\n\n".join(parts)
    print(f"\n{text}")
    if PUBLISH in sys.argv:
        page, found = re.subn(
            rf"(<!-- figures: {name} -->\n).*?(?=<!-- end -->)",
            lambda marks: f"{marks[1]}\n{text}\n\n",
            PAGE.read_text("utf-8"),
            flags=re.DOTALL,
        )
        if found != 1:
            raise RuntimeError(f"{PAGE} has {found} places for {name}, not one")
        PAGE.write_text(page, "utf-8")
