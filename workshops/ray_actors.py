"""Workers as actors of a Ray cluster, one per GPU, on any machine of the cluster."""

from __future__ import annotations

import contextlib
import importlib
import logging
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ..ground.errors import ConfigError
from ..ground.extras import require
from .seats import Hello, Make, Seat, SeatLostError, answer


class RaySeat(Seat):
    """An actor that answers calls.

    Args:
        name: The worker's name for messages.
        make: Makes the bench, in the actor.
        resources: The resources that Ray reserves for the actor, such as `{"num_gpus": 1}`.
    """

    def __init__(self, name: str, make: Make, resources: Mapping[str, float]) -> None:
        self.name = name
        self._make, self._resources = make, dict(resources)
        self._actor: Any = None

    def start(self) -> Hello:
        """See `Seat.start`."""
        ray = _ray()
        actor = ray.remote(**self._resources, max_restarts=0)(_Actor)
        self._actor = actor.remote(self._make)
        hello = self.call("hello")
        assert isinstance(hello, Hello)
        return hello

    def call(self, method: str, *args: Any, seconds: float | None = None) -> Any:
        """See `Seat.call`."""
        ray = _ray()
        if self._actor is None:
            raise SeatLostError("was ended")
        try:
            good, result = ray.get(self._actor.answer.remote(method, args), timeout=seconds)
        except ray.exceptions.GetTimeoutError:
            raise SeatLostError(f"has not answered for {seconds:.0f} s") from None
        except ray.exceptions.RayError as error:
            raise SeatLostError(f"was lost ({' '.join(str(error).split())[:120]})") from None
        if good:
            return result
        raise result

    def kill(self, grace: float = 0.0) -> None:
        """See `Seat.kill`."""
        ray = _ray()
        actor, self._actor = self._actor, None
        if actor is not None:
            with contextlib.suppress(Exception):  # the cluster may be gone
                ray.kill(actor)


class _Actor:
    """A worker in Ray. It makes its bench at the first call, so that errors are answered like those of any call."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._bench: Any = None

    def answer(self, method: str, args: tuple[Any, ...]) -> tuple[bool, Any]:
        if self._bench is None:
            good, made = answer(self, "_made", ())
            if not good:
                return False, made
            self._bench = made
        return answer(self._bench, method, args)

    def _made(self) -> Any:
        return self._make()


@contextlib.contextmanager
def ray_seats(make: Make, number: Literal["auto"] | int, address: str | None) -> Iterator[list[RaySeat]]:
    """Yield the seats of a Ray cluster, and disconnect at the end of the block.

    Args:
        make: Makes the bench of each worker.
        number: The number of workers; `auto` for one per GPU, or one per CPU core if the cluster has no GPU.
        address: The address of the cluster; None starts a cluster on this machine.

    Raises:
        MissingError: If Ray is not installed.
        ConfigError: If the cluster does not answer, or it has too few GPUs.
    """
    ray = _ray()
    begun = not ray.is_initialized()
    if begun:
        if address:
            _refuse_silence(address)
        try:
            alone = {} if address else {"include_dashboard": False}
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **alone)
        except Exception as error:  # Ray fails in many classes
            where = f"the Ray cluster at {address!r} does not answer" if address else "Ray cannot be started here"
            raise ConfigError(f"{where} ({' '.join(str(error).split())[:200]})") from None
    try:
        there = ray.cluster_resources()
        kind, each = ("GPU", "num_gpus") if there.get("GPU") else ("CPU", "num_cpus")
        most = int(there.get(kind, 0))
        wanted = most if number == "auto" else number
        if wanted > most:
            raise ConfigError(f"workers.ray: {wanted} need a {kind} each, and the cluster has {most}; ask for {most}")
        yield [RaySeat(f"worker {n}", make, {each: 1}) for n in range(1, wanted + 1)]
    finally:
        if begun:
            ray.shutdown()


def _refuse_silence(address: str) -> None:
    """Check that a cluster's port accepts connections, because Ray itself would wait for minutes.

    Raises:
        ConfigError: If the port does not accept a connection.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():  # one of Ray's keywords, such as auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"the Ray cluster at {address!r} does not answer ({error}); start it, or correct the address"
        ) from None


def _ray() -> Any:
    require("workers.ray", "ray")
    return importlib.import_module("ray")
