"""Everything on the pages that can be typed: fenced and indented blocks, and commands in running text."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
PROGRAMS = (
    *("trimpot", "python", "pip", "pytest", "uv", "hf", "sphinx-build", "ray"),
    *("sqlite3", "datasette", "tensorboard", "trackio", "wandb"),
)


@dataclass(frozen=True)
class Snippet:
    """A block, or a command in running text.

    Attributes:
        page: The page's path from the root.
        line: Its first line on the page.
        language: The word after the fence; empty for an indented block; `inline` for running text.
        text: The text of it.
    """

    page: str
    line: int
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that the first line gives it, such as `# flux.yaml`."""
        named = re.match(r"# ([\w./-]+\.(?:yaml|toml|py))\n", self.text)
        return named[1] if named else None

    @property
    def commands(self) -> list[str]:
        """The commands of an indented block or of running text, without comments; empty if it is something else."""
        if self.language not in ("", "inline"):
            return []
        lines = [line.strip() for line in self.text.replace("\\\n", "").splitlines() if line.strip()]
        parts = [part.strip() for line in lines for part in _uncommented(line).split(" && ")]
        return parts if all(part.split()[0] in PROGRAMS for part in parts) else []

    @property
    def printed(self) -> dict[str, str]:
        """The number that a command prints, for commands with a comment that begins with it: `# 57, counted ...`."""
        found = {}
        for line in self.text.splitlines():
            told = re.search(r"\s# ([\d,]+)\b", line)
            if told and self.commands:
                found[_uncommented(line.strip())] = told[1].rstrip(",")
        return found

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def _uncommented(line: str) -> str:
    return re.sub(r"\s+# .*", "", line)


def pages() -> list[Path]:
    """The pages that are read by users."""
    found = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*/README.md")]
    return sorted(found)


@cache
def snippets() -> tuple[Snippet, ...]:
    """Every snippet of every page, in the order of the pages."""
    found = []
    for path in pages():
        page = path.relative_to(ROOT).as_posix()
        for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
            line = token.map[0] + 1 if token.map else 0
            if token.type in ("fence", "code_block"):
                found.append(Snippet(page, line, token.info.strip(), token.content))
            for child in token.children or ():
                words = child.content.split()
                if child.type == "code_inline" and len(words) > 1 and words[0] in PROGRAMS:
                    found.append(Snippet(page, line, "inline", child.content))
    return tuple(found)


def words(command: str) -> list[str]:
    """Split a command as a shell does."""
    return shlex.split(command)
