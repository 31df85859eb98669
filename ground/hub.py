"""The model hub: files fetched into its cache, the commit that was read, and what its errors mean.

Needs the hub's client only where something is asked of it. Whoever asks says as which error a refusal is raised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .errors import TrimpotError, chain, first_line

LICENCE = "https://huggingface.co/"


def hub_file(repository: str, name: str, revision: str | None = None, *, error: type[TrimpotError]) -> Path:
    """A file of a hub repository, downloaded unless it is cached.

    Args:
        repository: Hub id, `owner/name`.
        name: Path of the file in the repository.
        revision: Branch, tag or commit; None for the default branch.
        error: What to raise if the file cannot be had.

    Returns:
        Where it lies in the cache: `.../snapshots/<commit>/<name>`.

    Raises:
        TrimpotError: As `error`.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    except Exception as failure:  # the hub's client, its network library and the disk each have their own classes
        raise error(hub_sentence(repository, revision, failure, name)) from failure


def hub_folder(repository: str, patterns: Sequence[str], revision: str, *, error: type[TrimpotError]) -> Path:
    """A folder in the cache with those files of a hub repository that match; see `hub_file`.

    Raises:
        TrimpotError: As `error`, if they cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    except Exception as failure:  # as in `hub_file`
        raise error(hub_sentence(repository, revision, failure)) from failure


def commit_of(path: Path, *, error: type[TrimpotError]) -> str:
    """The commit of a file in the hub's cache.

    Raises:
        TrimpotError: As `error`, if the file lies outside of it.
    """
    parts = path.parts
    if "snapshots" not in parts[:-1]:
        raise error(f"{path} is no file of the hub's cache; give the folder itself")
    return parts[len(parts) - parts[::-1].index("snapshots")]


def cached_commit(repository: str, revision: str | None) -> str:
    """The commit that a branch or tag stands for, or its name where the cache has not seen it; nothing is fetched."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    name = revision or "main"
    if re.fullmatch("[0-9a-f]{40}", name):
        return name
    home = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    known = home / "refs" / name
    return known.read_text(encoding="utf-8").strip() if known.is_file() else name


def hub_sentence(repository: str, revision: str | None, error: BaseException, name: str | None = None) -> str:
    """Say what an error that came up while something of the hub was read means, in one sentence.

    Args:
        repository: Hub id, `owner/name`.
        revision: Branch, tag or commit; None for the default branch.
        error: The error.
        name: Path of the file that was asked for.
    """
    found = hub_meaning(repository, revision, error, name)
    return found or f"cannot read {repository} from the hub: {first_line(error)}"


def hub_meaning(repository: str, revision: str | None, error: BaseException, name: str | None = None) -> str | None:
    """What an error of the hub's client means, or None where it is none of them; see `hub_sentence`.

    The error at hand is often not the one that tells: being refused is reported as a file missing from the
    cache. So the whole chain is looked through, the most telling class first.
    """
    from huggingface_hub import errors

    unreachable = (
        f"the hub cannot be reached and {repository} is not wholly in its cache; check the network, or give the "
        "folder of a local copy"
    )
    meanings: list[tuple[type[BaseException], str]] = [
        (
            errors.GatedRepoError,
            f"{repository} is gated: accept its licence at {LICENCE}{repository} and log in with `hf auth login`",
        ),
        (
            errors.RepositoryNotFoundError,
            f"the hub shows no {repository}; correct the id, or log in with `hf auth login` if it is private or gated",
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
