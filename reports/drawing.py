"""The common style of all figures.

Lines and points have colours that are legible on white and on black. The page colours text and grid, because it knows
whether it is light or dark.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

TEAL, BLUE, GREY, VIOLET = "#149c8c", "#4f83dd", "#8b93a1", "#b07cc6"
LINES = (
    TEAL, "#e0823d", BLUE, "#c9568c", VIOLET, "#8a9a2e",
    "#3aa0c9", "#a9745b", "#d14b4b", "#7f8b99", "#c9a227", "#2f8f57",
)  # fmt: skip
FONT = 'ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


def new_figure(height: int, x_title: str | None, y_title: str | None) -> go.Figure:
    """Return an empty figure of a height in pixels, with titled axes."""
    import plotly.graph_objects as go

    return dress(go.Figure(), height, x_title, y_title)


def dress(figure: go.Figure, height: int, x_title: str | None, y_title: str | None) -> go.Figure:
    """Give a figure the common style; the page sets the colours of text and grid."""
    figure.update_layout(
        template="none", height=height, margin={"l": 58, "r": 52, "t": 48, "b": 52}, bargap=0.06,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"size": 13, "family": FONT},
        legend={"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "yref": "paper"},
        legend_tracegroupgap=0, modebar={"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": TEAL},
    )  # fmt: skip
    figure.update_annotations(font_size=12)
    figure.update_xaxes(title={"font": {"size": 13}, "standoff": 10}, automargin=True)
    figure.update_yaxes(title={"font": {"size": 13}, "standoff": 10}, automargin=True)
    if x_title:
        figure.update_xaxes(title_text=x_title)
    if y_title:
        figure.update_yaxes(title_text=y_title)
    return figure


def add_line(
    figure: go.Figure, x: list[Any], y: list[Any], name: str, colour: str, *,
    width: float = 2, dash: str = "solid", mode: str = "lines+markers", **more: Any,
) -> None:  # fmt: skip
    """Add a line with its points; without points, add nothing."""
    if x:
        marker: Mapping[str, Any] = more.pop("marker", {"size": 7, "color": colour})
        line = {"color": colour, "width": width, "dash": dash}
        figure.add_scatter(x=x, y=y, name=name, mode=mode, line=line, marker=marker, **more)


def add_level(figure: go.Figure, value: float, text: str | None, **where: int) -> None:
    """Add a dashed horizontal line with an optional label."""
    line = {"color": GREY, "width": 1.2, "dash": "dash"}
    note = {"annotation": {"text": text, "font": {"size": 11}, "xanchor": "right"}} if text else {}
    figure.add_hline(value, line=line, **note, **where)
