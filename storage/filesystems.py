"""Recognizing file systems on which SQLite's locks and write-ahead log are unreliable."""

from __future__ import annotations

import warnings
from pathlib import Path

from ..ground.errors import Notice

NETWORK = ("nfs", "cifs", "smb", "afs", "ceph", "gluster", "lustre", "gpfs", "beegfs", "sshfs", "davfs", "s3fs")

_said: set[Path] = set()


def network_file_system(folder: Path) -> str | None:
    """Return the kind of network file system that a folder lies on, or None for a local one."""
    import psutil

    here = folder.resolve()
    mounts = {Path(each.mountpoint): each.fstype.lower() for each in psutil.disk_partitions(all=True)}
    kind = next((mounts[parent] for parent in (here, *here.parents) if parent in mounts), "")
    return kind if any(name in kind for name in NETWORK) else None


def warn_of_network(folder: Path) -> None:
    """Warn once that a store lies on a network file system."""
    if folder in _said:
        return
    _said.add(folder)
    kind = network_file_system(folder)
    if kind is not None:
        warnings.warn(
            f"{folder} is on a network file system ({kind}), where SQLite's locks cannot be relied on; let one machine "
            f"write it, and keep a copy with `trimpot backup`; a disk of this machine is safer",
            Notice,
            stacklevel=2,
        )
