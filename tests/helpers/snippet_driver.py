"""Runs pages' snippets in one process of an environment with the wheel: `python snippet_driver.py WORK RESULTS`.

The command line is called in the process, so that libraries are imported once for all pages. Every page has a folder of
its own, with a copy of a store that holds a finished run `shapes-1` and an interrupted run `my-1`.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any


def main() -> None:
    """Run every page; write what each step printed, and its status."""
    work, results = (Path(argument) for argument in sys.argv[1:])
    plan = json.loads(work.read_text())
    base = work.parent / "base"
    prepare(base, plan["small"])
    found = []
    for number, page in enumerate(plan["pages"]):
        folder = work.parent / f"page{number}"
        shutil.copytree(base, folder)
        os.chdir(folder)
        for name, text in page["files"].items():
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text(text)
        for name, source in page["copies"].items():
            shutil.copytree(source, name, dirs_exist_ok=True)
        for step in page["steps"]:
            found.append({**step, "page": page["page"], **run(step)})
            results.write_text(json.dumps(found))


def prepare(base: Path, small: list[str]) -> None:
    """Make a store with a finished run and an interrupted one, from an empty folder."""
    from trimpot.runs import session
    from trimpot.setup.config import load_config

    class Stopper:
        def generation_told(self, **_: Any) -> None:
            signal.raise_signal(signal.SIGINT)

        def __getattr__(self, name: str) -> Any:
            return lambda **_: None

    base.mkdir()
    os.chdir(base)
    done = command(["trimpot", "calibrate", "shapes", *small])
    assert done["status"] == 0, done
    try:
        session.start(load_config("shapes", [*small, "name=my", "seed=1"]), Path("trimpot-runs"), [Stopper()])
    except KeyboardInterrupt:
        return
    raise AssertionError("the run was not interrupted")


def run(step: dict[str, Any]) -> dict[str, Any]:
    """Run a step; return its status, output, errors and seconds."""
    begun = time.perf_counter()
    try:
        done = KINDS[step["kind"]](step)
    except BaseException:
        done = {"status": "raised", "output": "", "errors": traceback.format_exc()}
    return {**done, "seconds": round(time.perf_counter() - begun, 2)}


def command(words: list[str]) -> dict[str, Any]:
    """Run trimpot in this process."""
    from trimpot.cli import main as trimpot

    output, errors = io.StringIO(), io.StringIO()
    sys.argv = words
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            trimpot()
            status: Any = 0
        except SystemExit as ending:
            status = ending.code or 0
    return {"status": status, "output": output.getvalue(), "errors": errors.getvalue()}


def python(code: str) -> dict[str, Any]:
    """Execute Python, with a stock pipeline of the shipped model as `pipe`."""
    output = io.StringIO()
    given: dict[str, Any] = {"__name__": "snippet"}
    if "pipe" in code and "pipe = " not in code:
        from trimpot.adapters.checkpoints import load_pipeline, shipped

        model = str(shipped("shapes"))
        given["pipe"], _ = load_pipeline("StableDiffusion3Pipeline", model, revision=None, dtype="float32", device="cpu")
    with redirect_stdout(output):
        exec(compile(code, "snippet", "exec"), given)
    return {"status": 0, "output": output.getvalue(), "errors": ""}


def install(folder: str) -> dict[str, Any]:
    """Install a package of the page beside trimpot, as `pip install` does, for this process and its children."""
    from trimpot.setup.plugins import plugins

    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", "site", folder], capture_output=True, text=True)
    sys.path.insert(0, str(Path("site").resolve()))
    plugins.cache_clear()
    return {"status": done.returncode, "output": done.stdout, "errors": done.stderr}


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
    "command": lambda step: command(shlex.split(step["text"])),
    "python": lambda step: python(step["text"]),
    "python -c": lambda step: python(shlex.split(step["text"])[2]),
    "install": lambda step: install(shlex.split(step["text"])[-1]),
    "serve": lambda step: serve(shlex.split(step["text"])),
}

if __name__ == "__main__":
    main()
