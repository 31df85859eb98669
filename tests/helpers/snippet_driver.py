"""Runs pages' snippets in one process of an environment with the wheel: `python snippet_driver.py WORK RESULTS`.

The command line is called in the process, so that libraries are imported once for all pages. Every page has a folder of
its own, with a copy of a store that holds a finished run `shapes-1` and an interrupted run `my-1`.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import trimpot


def main() -> None:
    """Run every page; write what each step printed, and its status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's job in the background inherits it ignored
    work, results = (Path(argument) for argument in sys.argv[1:])
    assert trimpot.__file__.startswith(sys.prefix), f"{trimpot.__file__} is not of the wheel"
    plan = json.loads(work.read_text())
    sys.path.insert(0, "")  # a program finds the modules of its folder
    base = work.parent / "base"
    found = prepare(base, plan)
    done = {step["text"] for step in found}
    for number, page in enumerate(plan["pages"]):
        folder = work.parent / f"page{number}"
        shutil.copytree(base, folder)
        os.chdir(folder)
        for name, text in page["files"].items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
        for name, source in page["copies"].items():
            shutil.copytree(source, name, dirs_exist_ok=True)
        given: dict[str, Any] = {"__name__": "__main__", "small": small_keys(plan["small"])}
        for step in page["steps"]:
            if step["text"] in done:
                continue
            found.append({**step, "page": page["page"], **run(step, given)})
            if re.match(plan["once"], step["text"]):
                done.add(step["text"])
    results.write_text(json.dumps(found))


def prepare(base: Path, plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Make a store with finished runs and an interrupted one, from a folder with nothing but a model."""
    from trimpot.runs import session
    from trimpot.setup.config import load_config

    class Stopper:
        def generation_told(self, **_: Any) -> None:
            signal.raise_signal(signal.SIGINT)

        def __getattr__(self, name: str) -> Any:
            return lambda **_: None

    shutil.copytree(plan["model"], base / "tiny-flux")
    os.chdir(base)
    steps = [{"kind": "command", "text": text, "page": "", "line": 0} for text in plan["store"]]
    found = [{**step, **run(step, {})} for step in steps]
    with suppress(KeyboardInterrupt):
        session.start(load_config("shapes", [*plan["small"], "name=my", "seed=1"]), Path("trimpot-runs"), [Stopper()])
    return found


def small_keys(words: list[str]) -> dict[str, Any]:
    """Return the overrides of a command line as keys for `trimpot.calibrate`.

    The number of workers stays the snippet's own: workers cannot have all that a program holds.
    """
    import yaml

    keys = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in words)}
    return {key: value for key, value in keys.items() if key != "workers"}


def run(step: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Run a step; return its status, output, errors and seconds."""
    begun = time.perf_counter()
    try:
        done = KINDS[step["kind"]](step, dict(given))
    except BaseException:
        done = {"status": "raised", "output": "", "errors": traceback.format_exc()}
    return {**done, "seconds": round(time.perf_counter() - begun, 2)}


def command(words: list[str]) -> dict[str, Any]:
    """Run trimpot in this process."""
    from trimpot.cli import main as run_command_line

    output, errors = io.StringIO(), io.StringIO()
    sys.argv = words
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            run_command_line()
            status: Any = 0
        except SystemExit as ending:
            status = ending.code or 0
    return {"status": status, "output": output.getvalue(), "errors": errors.getvalue()}


def python(code: str, given: dict[str, Any]) -> dict[str, Any]:
    """Execute Python as a program, with a stock pipeline of the shipped model as `pipe` if it takes one for granted."""
    output = io.StringIO()
    if "pipe" in code and "pipe = " not in code:
        from trimpot.adapters.checkpoints import load_pipeline, shipped

        model = str(shipped("shapes"))
        given["pipe"], _ = load_pipeline(
            "StableDiffusion3Pipeline", model, revision=None, dtype="float32", device="cpu"
        )
    with redirect_stdout(output):
        exec(compile(code, "snippet", "exec"), given)
    return {"status": 0, "output": output.getvalue(), "errors": ""}


def serve(words: list[str]) -> dict[str, Any]:
    """Start a server in a process of its own; stop it as Ctrl-C does once it listens."""
    program = [sys.executable, "-m", "trimpot", *words[1:]]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    return {"status": 0 if "http://" in said else "did not listen", "output": said + rest, "errors": ""}


KINDS = {
    "command": lambda step, given: command(shlex.split(step["text"])),
    "python": lambda step, given: python(step["text"], given),
    "python -c": lambda step, given: python(shlex.split(step["text"])[2], given),
    "serve": lambda step, given: serve(shlex.split(step["text"])),
}

if __name__ == "__main__":
    main()
