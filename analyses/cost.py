"""What the runs of a store cost, from the store alone (Calibri, table 5)."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ..engine.nouns import one_of
from ..engine.schema import Real, Section
from ..reports.console import duration
from ..reports.drawing import GREY, LINES, new_figure
from ..reports.words import gain_text
from ..storage import SqliteStore
from .analysis import Analysis, Findings, Part, Table, drawn
from .bench import Bench
from .bills import STAGES, Bill, Costs, gather
from .options import Words

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_BARS = 40  # runs in the picture: the dearest


class CostOptions(Section):
    """What is told.

    Attributes:
        runs: Runs and analyses; default: all of the store.
        price: The price of a device-hour.
    """

    runs: Words = ()
    price: Annotated[Real, Field(ge=0, le=1e9)] | None = None


class Cost(Analysis):
    """See the module."""

    kind = "cost"
    question = "What did the runs of this store cost?"
    Options = CostOptions
    wants = "store"
    lasting = False

    options: CostOptions

    def check(self, store: SqliteStore) -> None:
        """Refuse runs that the store does not hold. See `Analysis.check`."""
        gather(store, self.options.runs)

    def examine(self, bench: Bench) -> Findings:
        """Read the records; nothing is generated. See `Analysis.examine`."""
        return findings(gather(bench.store, self.options.runs, self.options.price))


def findings(costs: Costs) -> Findings:
    """Return what runs cost as findings."""
    total, count, outputs = costs.total, len(costs.spenders), costs.outputs
    analyses = sum(run.kind != "run" for run in costs.spenders)
    runs = _counted(count - analyses, "run") + (
        f" and {_counted(analyses, 'analysis', 'analyses')}" if analyses else ""
    )
    money = costs.money(total.hours)
    paid = "" if money is None else f", {_money(money)} at {_money(costs.price or 0)} a device-hour"
    headline = f"{runs} made {total.images:,} {outputs} in {_hours(total.hours)} of generating and scoring{paid}."
    return Findings(
        headline,
        (
            Part(
                "By run",
                f"{outputs.capitalize()} that a run made, and those that it found in the store, which cost nothing: "
                "another run had made them. Device time is that of generating and scoring, summed over workers. Wall "
                "time counts loading, searching, waiting and reports too, over all resumes.",
                (drawn(figure(costs)),),
                (runs_table(costs),),
            ),
            Part(
                "By stage",
                "Baseline: neutral settings on validation prompts. Search: candidates. Validation: recommendations. "
                "Test: neutral and calibrated, once. Other steps: both at other numbers of steps. Comparison pools: "
                f"neutral {outputs} that a combination compares with.",
                (),
                (stages_table(costs),),
            ),
            Part(
                "By model",
                "Backbones generate, rewards score. Scoring is timed for all rewards of a run together.",
                (),
                (models_table(costs),),
            ),
        ),
        sentences=(_share(costs),),
        cautions=(() if not _unfinished(costs) else (_unfinished(costs),)),
        stats={
            "runs": f"{count - analyses:,}",
            f"{outputs} made": f"{total.images:,}",
            f"{outputs} found": f"{total.found:,}",
            "device time": duration(total.seconds),
            "wall time": duration(costs.wall_seconds),
            "money": "" if money is None else _money(money),
        },
        outputs=outputs,
        numbers={
            "price": costs.price,
            "total": _numbers(costs, total),
            "wall_seconds": costs.wall_seconds,
            "stages": {stage: _numbers(costs, bill) for stage, bill in costs.by_stage().items()},
            "models": [
                {"kind": kind, "name": name, **_numbers(costs, bill)} for (kind, name), bill in costs.by_model().items()
            ],
            "runs": {run.name: _numbers(costs, run.total) for run in costs.spenders},
        },
    )


def runs_table(costs: Costs) -> Table:
    """Return a row for every run."""
    columns = (
        *("run", "kind", "status", "model", "granularity", "knobs", "generations", "images", "found"),
        *(
            "generate_seconds",
            "score_seconds",
            "device_hours",
            "wall_seconds",
            "money",
            "gain",
            "gain_low",
            "gain_high",
        ),
    )
    rows = [
        (
            *(run.name, run.kind, run.status, run.model, run.granularity or None, run.num_knobs, run.generations),
            *(run.total.images, run.total.found, run.total.generate_seconds, run.total.score_seconds),
            *(run.total.hours, run.wall_seconds, costs.money(run.total.hours)),
            *((run.gain or {}).get(key) for key in ("mean", "low", "high")),
        )
        for run in costs.spenders
    ]
    head = [
        "",
        "knobs",
        "generations",
        f"{costs.outputs} made",
        "found",
        "device time",
        "wall time",
        *_priced(costs),
        "gain",
    ]
    shown = [
        [
            run.name,
            f"{run.num_knobs or ''}",
            f"{run.generations:,}" if run.kind == "run" else "",
            f"{run.total.images:,}",
            f"{run.total.found:,}",
            duration(run.total.seconds),
            duration(run.wall_seconds),
            *_paid(costs, run.total.hours),
            gain_text(run.gain, 3) if run.gain else run.status,
        ]
        for run in costs.spenders
    ]
    return Table("runs", columns, rows, (head, shown), main=3)


def stages_table(costs: Costs) -> Table:
    """Return a row for every stage."""
    columns = ("stage", "images", "found", "generate_seconds", "score_seconds", "device_hours", "money", "share")
    total = costs.total.seconds
    bills = {**costs.by_stage(), "all": costs.total}
    rows = [
        (
            *(stage, bill.images, bill.found, bill.generate_seconds, bill.score_seconds, bill.hours),
            *(costs.money(bill.hours), bill.seconds / total if total else None),
        )
        for stage, bill in bills.items()
    ]
    head = [
        "",
        f"{costs.outputs} made",
        "found",
        "generating",
        "scoring",
        "together",
        *_priced(costs),
        "share of the time",
    ]
    shown = [
        [
            stage,
            f"{bill.images:,}",
            f"{bill.found:,}",
            duration(bill.generate_seconds),
            duration(bill.score_seconds),
            duration(bill.seconds),
            *_paid(costs, bill.hours),
            f"{bill.seconds / total:.0%}" if total else "",
        ]
        for stage, bill in bills.items()
    ]
    return Table("stages", columns, rows, (head, shown), main=1)


def models_table(costs: Costs) -> Table:
    """Return a row for every backbone and every set of rewards."""
    columns = ("kind", "name", "images", "seconds", "milliseconds_an_image", "device_hours", "money")
    bills = costs.by_model()
    rows = [
        (kind, name, bill.images, bill.seconds, _each(bill), bill.hours, costs.money(bill.hours))
        for (kind, name), bill in bills.items()
    ]
    head = ["", "", costs.outputs, "time", one_of(costs.outputs), *_priced(costs)]
    shown = [
        [
            kind,
            name,
            f"{bill.images:,}",
            duration(bill.seconds),
            "" if _each(bill) is None else f"{_each(bill):.3g} ms",
            *_paid(costs, bill.hours),
        ]
        for (kind, name), bill in bills.items()
    ]
    return Table("models", columns, rows, (head, shown))


def figure(costs: Costs) -> go.Figure:
    """Draw a bar for every run, the dearest if there are many, divided into stages."""
    dearest = sorted(costs.spenders, key=lambda run: -run.total.seconds)[:MOST_BARS]
    shown = [run for run in costs.spenders if run in dearest][::-1]
    made = new_figure(120 + 28 * len(shown), "device-seconds", None)
    names = [escape(run.name) for run in shown]
    for number, stage in enumerate(STAGES):
        bills = [run.stages.get(stage, Bill()) for run in shown]
        if any(bill.seconds for bill in bills):
            made.add_bar(
                x=[bill.seconds for bill in bills],
                y=names,
                name=stage,
                orientation="h",
                marker={"color": LINES[number % len(LINES)], "line": {"color": GREY, "width": 0}},
                customdata=[f"{bill.images:,}" for bill in bills],
                hovertemplate="%{x:.4g} s, %{customdata} " + costs.outputs + "<extra>" + stage + "</extra>",
            )
    made.update_layout(barmode="stack", bargap=0.35, legend_traceorder="normal")
    made.update_yaxes(type="category")
    return made


def _share(costs: Costs) -> str:
    bills, total = costs.by_stage(), costs.total
    if not total.seconds:
        return "No time was recorded."
    stage, bill = max(bills.items(), key=lambda item: item[1].seconds)
    return (
        f"{bill.seconds / total.seconds:.0%} of the time went to the stage {stage!r}; "
        f"{total.score_seconds / total.seconds:.0%} of it was scoring."
    )


def _unfinished(costs: Costs) -> str:
    names = [run.name for run in costs.spenders if run.kind == "run" and run.gain is None]
    if not names:
        return ""
    first = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"Not finished: {first}. What it costs grows when it goes on."


def _numbers(costs: Costs, bill: Bill) -> dict[str, float | int | None]:
    return {
        "images": bill.images,
        "found": bill.found,
        "generate_seconds": bill.generate_seconds,
        "score_seconds": bill.score_seconds,
        "device_hours": bill.hours,
        "money": costs.money(bill.hours),
    }


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _each(bill: Bill) -> float | None:
    return 1000 * bill.seconds / bill.images if bill.images else None


def _priced(costs: Costs) -> list[str]:
    return [] if costs.price is None else ["money"]


def _paid(costs: Costs, hours: float) -> list[str]:
    money = costs.money(hours)
    return [] if money is None else [_money(money)]


def _money(value: float) -> str:
    return f"{value:,.2f}"


def _hours(hours: float) -> str:
    return duration(3600 * hours)
