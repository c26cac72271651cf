"""The code blocks of the documentation's pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"(?:<!-- (?:test: )?(?P<name>[\w-]+) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)


def blocks(page: str) -> list[tuple[str, str]]:
    """The page's Python blocks, each with the name in the comment above it, if any."""
    text = (ROOT / page).read_text("utf-8")
    return [(found["name"] or "", found["code"]) for found in _BLOCK.finditer(text)]


def block(page: str, name: str) -> str:
    """The page's block with this name."""
    [code] = [code for found, code in blocks(page) if found == name]
    return code


def run(code: str, namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """Execute a block, by default in names of its own, and return them."""
    namespace = {"__name__": "example"} if namespace is None else namespace
    exec(compile(code, "<page>", "exec", dont_inherit=True), namespace)
    return namespace
