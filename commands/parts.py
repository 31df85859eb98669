"""The commands that list parts: `knobs`, `optimizers`, `sites` and `plugins`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..ground.errors import ModelError, near_misses
from .app import JsonOption, PartOptions, PluginOption, app, plugins_with, print_json
from .completion import one_of, parts

LIBRARIES = ("diffusers", "transformers")  # whose classes `sites` checks


@app.command()
def knobs(
    adapter: Annotated[
        str, typer.Argument(help="An adapter's name; `trimpot plugins` lists them.", autocompletion=parts("adapters"))
    ],
    granularity: Annotated[
        str | None,
        typer.Option(
            "-g", "--granularity", help="block, layer or gate.", autocompletion=one_of(("block", "layer", "gate"))
        ),
    ] = None,
    option: PartOptions = None,
    plugin: PluginOption = None,
    count: Annotated[bool, typer.Option("--count", help="Print only the number of knobs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the knobs of a backbone, without loading weights if its configuration suffices.

    Example:  trimpot knobs shapes --granularity gate --count
    """
    from dataclasses import asdict

    from ..setup.config import typed_options

    known = plugins_with(plugin)
    options = typed_options("adapters", adapter, option or [], known)
    if granularity is not None:
        options["granularity"] = granularity
    if "outline" in known.options("adapters", adapter):
        options = {"outline": True, **options}
    made = known.make("adapters", adapter, options)
    space = made.space
    if made.frozen:
        typer.echo(f"frozen, since they cannot reach the output: {', '.join(made.frozen)}", err=True)
    if count:
        typer.echo(space.searched.sum())
    elif as_json:
        print_json([asdict(knob) for knob in space])
    else:
        table = Table(box=None, pad_edge=False)
        for heading in ("knob", "default", "low", "high", "spread"):
            table.add_column(heading, justify="left" if heading == "knob" else "right")
        for knob in space:
            numbers = [f"{value:g}" for value in (knob.default, knob.low, knob.high)]
            table.add_row(knob.name, *numbers, f"{knob.spread:g}" if knob.searched else "not searched")
        Console(highlight=False).print(table)


@app.command()
def optimizers(
    methods: Annotated[list[str] | None, typer.Argument(help="Methods of nevergrad; default: all.")] = None,
    num_knobs: Annotated[int, typer.Option("--knobs", min=1, help="The number of knobs to search.")] = 57,
    population_size: Annotated[int, typer.Option("--population", min=2, help="Candidates per generation.")] = 16,
    as_json: JsonOption = False,
) -> None:
    """Test which of nevergrad's optimizers can search here, and say why the others cannot.

    Each optimizer runs a few generations twice, so testing all takes some minutes.

    Example:  trimpot optimizers DE PSO TBPSA --knobs 114
    """
    from ..optimizers.nevergrad_probe import listing
    from ..optimizers.nevergrad_search import registered

    for method in methods or ():
        registered(method)  # refuses a wrong name before any test
    rows = listing(num_knobs, population_size, methods=methods or ())
    if as_json:
        print_json([{"name": f"nevergrad:{row.method}", "reason": row.reason, "seconds": row.seconds} for row in rows])
        return
    console, able, count = Console(highlight=False), 0, 0
    for row in rows:
        count, able = count + 1, able + (row.reason is None)
        said = f"{row.seconds:.3f} s per generation" if row.reason is None else f"[dim]it {escape(row.reason)}[/]"
        console.print(f"nevergrad:{row.method}  {said}")
    console.print(f"{able} of {count} can search {num_knobs} knobs with {population_size} candidates per generation")


@app.command()
def sites(
    classes: Annotated[list[str] | None, typer.Argument(help="Transformer classes; default: all.")] = None,
    library: Annotated[
        str,
        typer.Option(
            "--library",
            help="diffusers, or transformers for its causal language models.",
            autocompletion=one_of(LIBRARIES),
        ),
    ] = "diffusers",
    as_json: JsonOption = False,
) -> None:
    """Check the sites of every transformer class on a tiny instance, and print the table.

    This takes one or two minutes. The exit status is 1 if a check fails.

    Example:  trimpot sites FluxTransformer2DModel QwenImageTransformer2DModel
    """
    from dataclasses import asdict

    from ..proofs.transformers.__main__ import checked, main, status_of

    if library not in LIBRARIES:
        raise ModelError(f"the classes of {library!r} are not known; {near_misses(library, LIBRARIES)}")
    if not as_json:
        raise typer.Exit(main(classes or [], library))
    found = checked(classes or [], library)
    print_json([{**asdict(row), "holds": row.holds} for row in found])
    raise typer.Exit(status_of(found))


@app.command(name="plugins")
def list_plugins(plugin: PluginOption = None, as_json: JsonOption = False) -> None:
    """List the names that a configuration can use: backbones, rewards, optimizers, prompts, protocols, presets.

    Example:  trimpot plugins
    """
    import inspect

    from ..setup.config import presets, protocols
    from ..setup.plugins import KINDS

    known = plugins_with(plugin)
    found = [
        {
            "kind": each.kind,
            "name": each.name,
            "from": each.origin,
            "about": _first_line(inspect.getdoc(each.factory)),
        }
        for kind in KINDS
        for each in known.registrations(kind)
    ]
    broken = [{"name": each.name, "from": each.origin, "reason": each.reason} for each in known.broken]
    if as_json:
        print_json({"plugins": found, "broken": broken, "protocols": protocols(), "presets": presets()})
        return
    console = Console(highlight=False)
    width = max(len(entry["name"]) for entry in found)
    for kind in KINDS:
        console.print(f"\n[bold]{kind}[/]")
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(min_width=width, no_wrap=True)
        table.add_column()
        for entry in found:
            if entry["kind"] == kind:
                origin = "" if entry["from"] == "trimpot" else f" [dim]({escape(entry['from'])})[/]"
                table.add_row(escape(entry["name"]), escape(entry["about"]) + origin)
        console.print(table)
    console.print(f"\n[bold]protocols[/]  {', '.join(protocols())}")
    console.print(f"[bold]presets[/]    {', '.join(presets())}")
    for entry in broken:
        console.print(
            f"[red]could not import[/] {escape(entry['name'])} of {escape(entry['from'])}: {escape(entry['reason'])}"
        )


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0]
