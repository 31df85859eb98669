"""Where weights come from, and which they are.

Of a folder the digest of its files is recorded. Of a hub id it is the commit that was read, since a branch may
move. Files are kept in the hub's own cache under their commit, where they are found again without the network.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..engine.errors import ModelError

LICENCE = "https://huggingface.co/"


def hub_file(repository: str, name: str, revision: str | None = None) -> Path:
    """A file of a hub repository, downloaded unless it is cached.

    Args:
        repository: Hub id, `owner/name`.
        name: Path of the file in the repository.
        revision: Branch, tag or commit; None for the default branch.

    Returns:
        Where it lies in the cache: `.../snapshots/<commit>/<name>`.

    Raises:
        ModelError: If it cannot be had.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name, revision=revision))
    except Exception as error:  # the hub's client, its network library and the disk each have their own classes
        raise ModelError(hub_sentence(repository, revision, error, name)) from error


def hub_folder(repository: str, patterns: list[str], revision: str) -> Path:
    """A folder in the cache with those files of a hub repository that match; see `hub_file`.

    Raises:
        ModelError: If they cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except Exception as error:  # as in `hub_file`
        raise ModelError(hub_sentence(repository, revision, error)) from error


def commit_of(path: Path) -> str:
    """The commit of a file in the hub's cache.

    Raises:
        ModelError: If the file lies outside of it.
    """
    parts = path.parts
    if "snapshots" not in parts[:-1]:
        raise ModelError(f"{path} is no file of the hub's cache; give the folder itself")
    return parts[len(parts) - parts[::-1].index("snapshots")]


def hub_sentence(repository: str, revision: str | None, error: BaseException, name: str | None = None) -> str:
    """Say what a hub error means, in one sentence.

    The error at hand is often not the one that tells: being refused is reported as a file missing from the
    cache. So the whole chain is looked through, the most telling class first.
    """
    from huggingface_hub import errors

    chain = list(_chain(error))
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
        (errors.OfflineModeIsEnabled, _unreachable(repository)),
        (errors.LocalEntryNotFoundError, _unreachable(repository)),
        (ConnectionError, _unreachable(repository)),
    ]
    for kind, sentence in meanings:
        if any(isinstance(each, kind) for each in chain):
            return sentence
    return f"cannot read {repository} from the hub: {first_line(error)}"


def _unreachable(repository: str) -> str:
    return (
        f"the hub cannot be reached and {repository} is not wholly in its cache; check the network, or give the "
        "folder of a local copy"
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without its full stop, or its class where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
