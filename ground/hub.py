"""Download files from the model hub, find the commit of a revision, and explain the hub's errors.

The hub's client is imported only inside the functions that need it. The caller chooses the class of the error raised.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from .errors import TrimpotError, chain, first_line

LICENCE = "https://huggingface.co/"
Kind = Literal["model", "dataset"]


def hub_file(repository: str, name: str, revision: str | None = None, *, error: type[TrimpotError]) -> Path:
    """Return the path of a file of a hub repository, and download the file first unless it is cached.

    Args:
        repository: The hub id, `owner/name`.
        name: The path of the file in the repository.
        revision: A branch, tag or commit; None for the default branch.
        error: The class of the error to raise.

    Returns:
        The path in the cache: `.../snapshots/<commit>/<name>`.

    Raises:
        TrimpotError: Of the class `error`, if there is no such file or the download fails.
    """
    from huggingface_hub import hf_hub_download

    try:
        with _quiet_retries():
            return Path(hf_hub_download(repository, name, revision=revision))
    except Exception as failure:  # the hub's client, its network library and the disk raise errors of their own classes
        raise error(hub_sentence(repository, revision, failure, name)) from failure


def hub_folder(
    repository: str,
    patterns: Sequence[str],
    revision: str | None,
    *,
    error: type[TrimpotError],
    kind: Kind = "model",
) -> Path:
    """Download the files of a hub repository that match a pattern, and return their folder in the cache.

    Args:
        repository: The hub id, `owner/name`.
        patterns: Patterns of file names, such as `*.safetensors`.
        revision: A branch, tag or commit; None for the default branch.
        error: The class of the error to raise.
        kind: The kind of repository.

    Raises:
        TrimpotError: Of the class `error`, if the download fails.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, repo_type=kind, revision=revision, allow_patterns=list(patterns)))
    except Exception as failure:  # as in `hub_file`
        raise error(hub_sentence(repository, revision, failure, kind=kind)) from failure


def commit_of(path: Path, *, error: type[TrimpotError]) -> str:
    """Return the commit of a file in the hub's cache.

    Raises:
        TrimpotError: Of the class `error`, if the file is not in the cache.
    """
    parts = path.parts
    if "snapshots" not in parts[:-1]:
        raise error(f"{path} is no file of the hub's cache; give the folder itself")
    return parts[len(parts) - parts[::-1].index("snapshots")]


def cached_commit(repository: str, revision: str | None) -> str:
    """Return the commit of a branch or tag from the cache, or its name if the cache lacks it; downloads nothing."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    name = revision or "main"
    if re.fullmatch("[0-9a-f]{40}", name):
        return name
    home = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    known = home / "refs" / name
    return known.read_text(encoding="utf-8").strip() if known.is_file() else name


def hub_sentence(
    repository: str, revision: str | None, error: BaseException, name: str | None = None, kind: Kind = "model"
) -> str:
    """Explain an error that occurred while a hub repository was read, in one sentence.

    Args:
        repository: The hub id, `owner/name`.
        revision: A branch, tag or commit; None for the default branch.
        error: The error.
        name: The path of the file that was asked for.
        kind: The kind of repository.
    """
    found = hub_meaning(repository, revision, error, name, kind)
    return found or f"cannot read {repository} from the hub: {first_line(error)}"


def hub_meaning(
    repository: str, revision: str | None, error: BaseException, name: str | None = None, kind: Kind = "model"
) -> str | None:
    """Explain an error of the hub's client, or return None if the error is of another kind; see `hub_sentence`.

    The last error of a chain often hides the reason: a refused access is reported as a file missing from the cache. So
    all errors of the chain are searched, the most specific class first.
    """
    from huggingface_hub import errors

    page = f"{LICENCE}{'datasets/' if kind == 'dataset' else ''}{repository}"
    shown = f"data set {repository}" if kind == "dataset" else repository
    unreachable = (
        f"the hub cannot be reached and {repository} is not wholly in its cache; check the network, or give the "
        "folder of a local copy"
    )
    meanings: list[tuple[type[BaseException], str]] = [
        (
            errors.GatedRepoError,
            f"{repository} is gated: accept its licence at {page} and log in with `hf auth login`",
        ),
        (
            errors.RepositoryNotFoundError,
            f"the hub shows no {shown}; correct the id, or log in with `hf auth login` if it is private or gated",
        ),
        (errors.RevisionNotFoundError, f"{repository} has no revision {revision!r}; give a branch, tag or commit"),
        (errors.HFValidationError, f"{repository!r} is neither a folder here nor a hub id such as owner/name"),
        (errors.RemoteEntryNotFoundError, f"{repository} has no {name or 'such file'} at {revision or 'main'}"),
        (errors.OfflineModeIsEnabled, unreachable),
        (errors.LocalEntryNotFoundError, unreachable),
        (ConnectionError, unreachable),
    ]
    links = list(chain(error))
    return next((said for kind, said in meanings if any(isinstance(link, kind) for link in links)), None)


@contextlib.contextmanager
def _quiet_retries() -> Iterator[None]:
    """Suppress the notices of the hub's client about each retry; the error at the end says what matters."""
    logger = logging.getLogger("huggingface_hub.utils._http")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
