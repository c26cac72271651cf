"""Hooks of the documentation site: pages that are not in docs/, links that leave it, and docstrings.

The API reference has a page for each module of `tests/public_api.txt`. `CHANGELOG.md` and similar files of the
repository's root become pages as well. Links to other files are replaced by their text, because the site does not
contain them; on the code host they work.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ROOT_PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]*)\]\((?P<path>[^)#\s:]+)(?P<anchor>#[^)\s]*)?\)")
_NAME = re.compile(r"(?:class |def )?(\w+)")


def on_config(config: Any) -> Any:
    """Add the modules of the API reference to the navigation."""
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    section = next(entry for entry in reference if "Python API" in entry)
    section["Python API"] = [{module: f"api/{module}.md"} for module in _public_names()]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the API reference and those of the repository's root."""
    for module, names in _public_names().items():
        members = "".join(f"\n            - {name}" for name in names)
        content = f"# {module}\n\n::: {module}\n    options:\n        members:{members}\n"
        files.append(File.generated(config, f"api/{module}.md", content=content))
    for source, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links at the site's pages, or replace them by their text where the site has no page."""
    source = {target: name for name, target in ROOT_PAGES.items()}.get(page.file.src_uri)
    folder = posixpath.dirname(source or f"docs/{page.file.src_uri}")

    def replace(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link["path"]))
        if not (ROOT / target).exists():
            return link[0]  # MkDocs reports it
        if target in ROOT_PAGES:
            target = f"docs/{ROOT_PAGES[target]}"
        elif not target.startswith("docs/"):
            return link["text"]
        here = posixpath.dirname(f"docs/{page.file.src_uri}")
        return f"[{link['text']}]({posixpath.relpath(target, here)}{link['anchor'] or ''})"

    return _LINK.sub(replace, markdown)


class Docstrings(griffe.Extension):
    """Makes griffe read docstrings as Python and our tests do."""

    def on_package(self, *, pkg: Any, loader: Any, **_: Any) -> None:
        """Copy the signatures of capturing methods, and let each example be parsed as one."""
        for item in _objects(pkg):
            if item.is_function:
                for decorator in item.decorators:
                    path, _, name = decorator.callable_path.rpartition(".")
                    if name == "implements":  # sessionsight.capture.signatures
                        declared = loader.modules_collection[path]
                        item.parameters, item.returns = declared.parameters, declared.returns
                        item.docstring = declared.docstring
            if item.docstring:
                item.docstring.value = item.docstring.value.replace("\nExample:\n", "\nExamples:\n")


def _objects(parent: Any) -> Iterator[Any]:
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from _objects(member)


def _public_names() -> dict[str, list[str]]:
    modules: dict[str, list[str]] = {}
    names: list[str] = []
    for line in (ROOT / "tests" / "public_api.txt").read_text("utf-8").splitlines():
        if line.startswith("# "):
            names = modules[line.removeprefix("# ")] = []
        elif (name := _NAME.match(line)) is not None:
            names.append(name[1])
    return modules
