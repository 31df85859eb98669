"""Push a published folder to the hub, pull one, and find those with trimpot's tag."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from ..applying.located import FILE_NAME
from ..engine.calibration import Calibration
from ..ground.errors import CalibrationError, chain, first_line
from ..ground.folders import whole_folder
from ..ground.hub import hub_folder, hub_meaning
from .card import TAGS
from .folder import PATTERNS


def logged_in() -> bool:
    """Return whether a token of the hub is known here."""
    from huggingface_hub import get_token

    return get_token() is not None


def push(folder: Path, repository: str, *, private: bool = False) -> str:
    """Create a repository if there is none, and push a published folder to it in one commit.

    Args:
        folder: The folder, as `write_folder` writes it.
        repository: The hub id, `owner/name`.
        private: Whether a new repository is private.

    Returns:
        The address of the repository.

    Raises:
        CalibrationError: If the hub refuses, or cannot be reached; a repository changes whole or not at all.
    """
    from huggingface_hub import HfApi

    hub = HfApi()
    try:
        address = hub.create_repo(repository, private=private, exist_ok=True)
        hub.upload_folder(
            repo_id=repository,
            folder_path=str(folder),
            allow_patterns=list(PATTERNS),
            commit_message="A calibration by trimpot",
        )
    except Exception as error:  # the client and its network library raise errors of many classes
        raise CalibrationError(_refused(repository, error)) from error
    return str(address)


def pull(repository: str, folder: Path, *, revision: str | None = None) -> Path:
    """Download a published folder, and check that it holds a calibration.

    Raises:
        CalibrationError: If the folder exists, or the repository holds no calibration or cannot be read.
    """
    with whole_folder(folder, error=CalibrationError) as partial:
        found = hub_folder(repository, PATTERNS, revision or "main", error=CalibrationError)
        if not (found / FILE_NAME).is_file():
            raise CalibrationError(f"{repository} holds no {FILE_NAME}, so it is no calibration by trimpot")
        Calibration.load(found / FILE_NAME)
        for pattern in PATTERNS:
            for file in found.glob(pattern):
                to = partial / file.relative_to(found)
                to.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, to)
    return folder


def tagged(tag: str = TAGS[0]) -> Iterator[str]:
    """Yield the ids of the repositories with a tag.

    Raises:
        CalibrationError: If the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        for found in HfApi().list_models(filter=tag):
            yield str(found.id)
    except Exception as error:  # as in `push`
        raise CalibrationError(_refused(f"the repositories tagged {tag}", error)) from error


def licence_of(repository: str) -> str | None:
    """Return the licence that a model's card on the hub states, or None if it cannot be read."""
    from huggingface_hub import HfApi

    try:
        data = HfApi().model_info(repository, timeout=10).card_data
    except Exception:  # a licence is an addition: nothing fails for lack of it
        return None
    return None if data is None else data.get("license")


def _refused(repository: str, error: Exception) -> str:
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    if any(isinstance(link, (httpx.TransportError, ConnectionError)) for link in chain(error)):
        return f"the hub cannot be reached for {repository}; check the network, and give the same command again"
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        if error.response.status_code == 401:
            return f"the hub asks who you are before it takes {repository}; log in with `hf auth login`"
        if error.response.status_code == 403:
            return f"you may not write to {repository}; log in as its owner with `hf auth login`, or name another"
    return hub_meaning(repository, None, error) or f"the hub did not take {repository}: {first_line(error)}"
