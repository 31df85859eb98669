"""`COMFYUI_PATH=FOLDER python -m trimpot.proofs.comfyui [FAMILY ...]`: prove the families and print the table."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

from ...ground.errors import ConfigError, TrimpotError, near_misses
from .proof import CASES, Proof, cases, prepare
from .twins import TWINS

LARGEST, WIDTH = 3e-6, 150


def main(families: list[str]) -> int:
    """Prove the named families, or all; return the exit status.

    Raises:
        ConfigError: If there is no such family, or ComfyUI cannot be imported.
    """
    for family in families:
        if family not in TWINS:
            raise ConfigError(f"no family {family!r}; {near_misses(family, TWINS)}")
    prepare()
    table = Table("family", *CASES, "least effect", title="ComfyUI with the node, and diffusers with trimpot")
    holds = True
    for family in families or TWINS:
        proof = Proof(TWINS[family])
        found = {name: proof.difference(CASES[name]) for name in cases(family)}
        least, dead = proof.least_effect()
        told = f"{least:.1e}" + (f", {dead} of {len(proof.addresses)} none" if dead else "")
        table.add_row(family, *(f"{found[name]:.1e}" if name in found else "" for name in CASES), told)
        holds = holds and max(found.values()) <= min(LARGEST, least / 10)
    console = Console()
    console.width = max(console.width, WIDTH)  # a narrower console would cut off cells
    console.print(table)
    return 0 if holds else 1


if __name__ == "__main__":
    arguments, sys.argv[1:] = sys.argv[1:], []  # ComfyUI reads the command line itself
    try:
        sys.exit(main(arguments))
    except TrimpotError as error:
        sys.exit(str(error))
