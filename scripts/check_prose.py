"""Check that docstrings, comments, messages, test names and pages use plain technical English.

Prints each phrase that CONTRIBUTING.md asks writers to avoid, as `file:line: phrase: text`, and exits with 1 if there
is any. Without arguments it reads every Python and Markdown file that git tracks.

    python scripts/check_prose.py core/sessionsight/client.py docs/
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

PHRASES = re.compile(
    r"\b(for ever|in vain|afresh|anew|whosever|borne|bears|goes before|dear(?:est)? to|in the midst|of ours)\b"
    r"|(?<!there )\bis no (?!longer\b|more\b)[a-z]+\b"
    r"|, for (?:it|they|there|the|no|only)\b",
    re.IGNORECASE,
)
OPENINGS = re.compile(r"(?:What|Whether|Whose|Whom|Who)\b")

# The page that quotes the phrases, and this file.
EXEMPT = {"scripts/check_prose.py", "CONTRIBUTING.md"}


def python_texts(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yield each text of a Python file: its line, the text, and whether it is a docstring."""
    tree = ast.parse(source)
    docstrings: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.body and isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant):
                docstrings.add(id(node.body[0].value))
            if not isinstance(node, ast.Module) and node.name.startswith("test_"):
                yield node.lineno, node.name.replace("_", " "), False
        body = getattr(node, "body", None)
        if isinstance(body, list):  # a string below an assignment documents it
            docstrings.update(
                id(item.value)
                for item in body
                if isinstance(item, ast.Expr)
                and isinstance(item.value, ast.Constant)
                and isinstance(item.value.value, str)
            )
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value, id(node) in docstrings
    comment: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        if comment and token.start[0] != last + 1:
            yield first, " ".join(comment), False
            comment = []
        if not comment:
            first = token.start[0]
        comment.append(token.string.lstrip("# "))
        last = token.start[0]
    if comment:
        yield first, " ".join(comment), False


def markdown_texts(source: str) -> Iterator[tuple[int, str, bool]]:
    """Yield each paragraph of a page, without its code blocks."""
    paragraph: list[str] = []
    first, in_code = 1, False
    for number, line in enumerate([*source.splitlines(), ""], 1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code and line.strip():
            if not paragraph:
                first = number
            paragraph.append(line.strip())
            continue
        if paragraph:
            yield first, " ".join(paragraph), False
            paragraph = []


def problems(path: Path) -> Iterator[str]:
    """Yield one line for each phrase to avoid."""
    source = path.read_text(encoding="utf-8")
    texts = python_texts(source) if path.suffix == ".py" else markdown_texts(source)
    for line, text, is_docstring in texts:
        plain = " ".join(text.split())
        for found in PHRASES.finditer(plain):
            yield f"{path}:{line}: {found.group()!r}: {plain[max(found.start() - 40, 0) : found.end() + 40]}"
        if is_docstring and (opening := OPENINGS.match(plain)):
            yield f"{path}:{line}: opens with {opening.group()!r}: {plain[:80]}"


def files(arguments: Sequence[str]) -> list[Path]:
    """Return the files to read."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *arguments], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    return [
        Path(name) for name in listed if name.endswith((".py", ".md")) and name not in EXEMPT and Path(name).exists()
    ]


def main() -> int:
    """Print all problems; return 1 if there is any."""
    found = [problem for path in files(sys.argv[1:]) for problem in problems(path)]
    for problem in found:
        print(problem)
    if found:
        print(f"{len(found)} phrases to put in plainer words; CONTRIBUTING.md says which and why.", file=sys.stderr)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
