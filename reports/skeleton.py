"""The frame of every page: one HTML file that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ..engine.calibration import write_text
from ..ground.errors import CalibrationError
from .style import CSS, SCRIPT

# The browser enforces it: with this policy, the page cannot load anything from a network.
POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


def whole_page(title: str, body: str, *, interactive: bool) -> str:
    """Return a page as HTML.

    Args:
        title: The title of the window; escaped here.
        body: The sections as HTML.
        interactive: Whether the page has figures, so that plotly must be embedded.
    """
    scripts = f"<script>{plotly_source()}</script>\n<script>{SCRIPT}</script>" if interactive else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)} · trimpot</title>
<style>{CSS}</style>
</head>
<body>
<main>
{body}
</main>
{scripts}
</body>
</html>
"""


def write_page(path: Path, page: str) -> None:
    """Write a page, whole or not at all, and never over anything but a page.

    Raises:
        CalibrationError: If it cannot be written, or `path` holds something else, such as a calibration.
    """
    try:
        with path.open("rb") as file:
            other = not file.read(20).lower().startswith(b"<!doctype html>")
    except OSError:  # there is nothing yet, or nothing that can be written over: the writing says so
        other = False
    if other:
        raise CalibrationError(f"{path} holds something that is no page; name another file")
    write_text(path, page)


def chart(name: str, figure: str) -> str:
    """Return the HTML of a figure; its JSON is escaped so that it cannot end its own script element."""
    data = figure.replace("<", "\\u003c")
    return (
        f'<div class="chart" id="figure-{name}"><div class="plot"></div>'
        f'<noscript><p class="note">This figure needs JavaScript.</p></noscript>'
        f'<script type="application/json">{data}</script></div>'
    )


def plotly_source() -> str:
    """Return the source of plotly.js, to be embedded."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def made_with(command: str, again: tuple[str, str], versions: Sequence[tuple[str, str]], asked: tuple[str, str]) -> str:
    """Return the section on how a page came about, and how it is made again.

    Args:
        command: The command that was typed; may be empty.
        again: What another command does, and that command.
        versions: Packages with their versions.
        asked: The name of what was asked for, and its text.
    """
    (doing, again_command), (name, text) = again, asked
    listed = table(["package", "version"], [list(each) for each in versions])
    return (
        "<section><h2>Made with</h2>"
        + (f"<pre>{escape(command)}</pre>" if command else "")
        + f"<p>{escape(doing)}</p><pre>{escape(again_command)}</pre>"
        + (f"<details><summary>Versions</summary>{listed}</details>" if versions else "")
        + f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details></section>"
    )


def _lines(text: str) -> str:
    first, _, second = text.partition("\n")
    return escape(first) + (f"<small>{escape(second)}</small>" if second else "")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], main: int | None = None) -> str:
    """Return an HTML table; column number `main` is emphasised, and a cell's second line is small."""
    headings = "".join(f"<th>{escape(text)}</th>" for text in head)
    lines = []
    for row in rows:
        cells = "".join(
            f'<td class="main">{_lines(text)}</td>' if column == main else f"<td>{_lines(text)}</td>"
            for column, text in enumerate(row)
        )
        lines.append(f"<tr>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{headings}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
