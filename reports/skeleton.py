"""What every page has: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from .style import CSS, SCRIPT

# The browser itself holds the page to its word: nothing is loaded from anywhere.
POLICY = (
    "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


def whole_page(title: str, body: str, *, interactive: bool) -> str:
    """A page as text.

    Args:
        title: Of the window; escaped here.
        body: Sections as HTML.
        interactive: Whether there are figures, and so plotly is embedded.
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


def chart(name: str, figure: str) -> str:
    """A figure's place on the page, with its data as JSON that cannot end its own script element."""
    data = figure.replace("<", "\\u003c")
    return (
        f'<div class="chart" id="figure-{name}"><div class="plot"></div>'
        f'<noscript><p class="note">This figure needs JavaScript.</p></noscript>'
        f'<script type="application/json">{data}</script></div>'
    )


def plotly_source() -> str:
    """Plotly itself, to be embedded."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def table(head: Sequence[str], rows: Sequence[Sequence[str]], main: int | None = None) -> str:
    """A table of text; column `main` stands out."""
    headings = "".join(f"<th>{escape(text)}</th>" for text in head)
    lines = []
    for row in rows:
        cells = "".join(
            f'<td class="main">{escape(text)}</td>' if column == main else f"<td>{escape(text)}</td>"
            for column, text in enumerate(row)
        )
        lines.append(f"<tr>{cells}</tr>")
    return f'<div class="scroll"><table><thead><tr>{headings}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'
