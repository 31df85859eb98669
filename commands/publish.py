"""The commands `push`, `pull` and `gallery`: calibrations for everybody."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..ground.errors import printable
from .app import FOLDER, JsonOption, StoreOption, app, print_json
from .completion import stored_runs


@app.command()
def push(
    calibration: Annotated[
        str, typer.Argument(help="A run, a calibration file, or its folder.", autocompletion=stored_runs)
    ],
    repository: Annotated[str, typer.Argument(help="The repository on the hub: owner/name.")],
    dry_run: Annotated[
        bool | None,
        typer.Option("--dry-run/--no-dry-run", help="Only write the folder; the default if you are not logged in."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="The folder to write; default: the repository's name.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    licence: Annotated[
        str | None, typer.Option("--license", help="The base model's licence; default: what its card on the hub says.")
    ] = None,
    store: StoreOption = FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Publish a calibration on the hub: file, model card, pictures, and the configuration that reproduces it.

    Example:  trimpot push shapes-1 somebody/shapes-calibrated --dry-run
    """
    from ..applying.located import located_calibration
    from ..engine.calibration import Calibration
    from ..ground.errors import CalibrationError
    from ..publishing.folder import write_folder
    from ..publishing.hub import licence_of, logged_in
    from ..publishing.hub import push as push_folder

    owner, _, name = repository.partition("/")
    if not owner or not name or "/" in name:
        raise CalibrationError(f"{repository!r} is no repository of the hub; give owner/name")
    file = located_calibration(calibration, store=store)
    source = Calibration.load(file).backbone.get("source")
    base = source.get("id") if isinstance(source, dict) and source.get("revision") else None
    dry = not logged_in() if dry_run is None else dry_run
    folder = write_folder(file, to or Path(name), repository, licence or (licence_of(base) if base else None))
    address = None if dry else push_folder(folder, repository, private=private)
    if as_json:
        print_json({"folder": str(folder), "pushed": address})
    elif address:
        typer.echo(address)
    else:
        typer.echo(f"{folder} is written and nothing is pushed; log in with `hf auth login`, or give --no-dry-run")


@app.command()
def pull(
    repository: Annotated[str, typer.Argument(help="The repository on the hub: owner/name.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="The folder to write; default: the repository's name.")
    ] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="A branch, tag or commit.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Download a published calibration with its card and pictures.

    Example:  trimpot pull somebody/shapes-calibrated
    """
    from ..publishing.hub import pull as pull_folder

    folder = pull_folder(repository, to or Path(repository.rpartition("/")[2]), revision=revision)
    if as_json:
        print_json({"folder": str(folder)})
    else:
        typer.echo(folder)


@app.command()
def gallery(
    source: Annotated[str, typer.Argument(help="A folder of runs or pulled calibrations, or a tag of the hub.")] = str(
        FOLDER
    ),
    to: Annotated[Path, typer.Option("--to", help="The page to write.")] = Path("gallery.html"),
    look: Annotated[
        bool | None, typer.Option("--open/--no-open", help="Open the page; default: on a terminal.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show many calibrations on one page, each with its gain and its pictures.

    Example:  trimpot gallery trimpot-runs
    """
    import tempfile

    from ..ground.errors import TrimpotError
    from ..publishing.catalogue import entries_in, write_catalogue
    from ..publishing.hub import pull as pull_folder
    from ..publishing.hub import tagged

    with tempfile.TemporaryDirectory() as pulled:
        folder, told = Path(source), []
        if not folder.exists() and "/" not in source:
            folder = Path(pulled)
            for repository in tagged(source):
                try:
                    pull_folder(repository, folder / repository)
                except TrimpotError as error:
                    told.append(str(error))
        entries, wrong = entries_in(folder)
        write_catalogue(to, f"Calibrations in {source}", entries)
    for sentence in (*told, *wrong):
        typer.echo(f"trimpot: {printable(sentence)}", err=True)
    if as_json:
        print_json({"page": str(to), "calibrations": [entry.name for entry in entries]})
    else:
        typer.echo(to)
    if look or (look is None and not as_json and sys.stdout.isatty()):
        typer.launch(str(to.absolute()))
