"""Serve any scorer over HTTP, for rewards that cannot run in the process that uses them.

    GET  /health  ->  {"protocol", "name", "fingerprint", "description", "limits", "metadata",
                       "scores_sets"}
    POST /score   {"protocol", "prompts": [...], "outputs": [{"png": base64} | {"json": value}, ...], "fingerprint"?,
                   "metadata"?: {prompt: {...}, ...}}
                  ->  {"fingerprint", "scores": [...]}
    any failure   ->  {"error": one sentence} with a status of 400 or more

A server needs only this file and `bounded_http.py`. They import the standard library, and Pillow once an image arrives.
They run on Python 3.9, so that they fit into the environment of almost any reward. Nothing is unpickled. A single
thread does all the scoring, because models are rarely safe to call from two threads.
"""

from __future__ import annotations

import argparse
import binascii
import functools
import hashlib
import hmac
import io
import ipaddress
import itertools
import json
import math
import numbers
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from .bounded_http import DRAINED, BoundedHandler, BoundedServer, Patience, RefusalError, parsed, show_traceback
else:  # the two files were copied out of the package
    from bounded_http import DRAINED, BoundedHandler, BoundedServer, Patience, RefusalError, parsed, show_traceback

__all__ = ["PORT", "PROTOCOL", "SLOTS", "Limits", "Patience", "RefusalError", "RewardServer", "Scorer", "main", "serve"]

PROTOCOL = 1
PORT = 8200
#: The largest number of requests that wait or are being scored; another request is refused with status 503.
SLOTS = 8


@dataclass(frozen=True)
class Scorer:
    """A reward to serve.

    Attributes:
        name: The name of the reward.
        score: Computes a finite score of every output, given the outputs and their prompts. Images arrive as PIL
            images, all other outputs as JSON values.
        description: Everything that can change a score, JSON-like: weights, revision, options, library versions.
        prepare: Takes the metadata of a request's prompts before the outputs are scored; None if metadata changes no
            score.
        scores_sets: Whether a score also depends on the other outputs of the prompt; a request then holds all of them.
    """

    name: str
    score: Callable[[list[Any], list[str]], Iterable[Any]]
    description: Mapping[str, Any]
    prepare: Callable[[Mapping[str, Mapping[str, Any]]], None] | None = None
    scores_sets: bool = False

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits: a digest of the name, the description, and the source file of `score`.

        Raises:
            RefusalError: If the description is not JSON-like.
        """
        try:
            text = json.dumps(
                [{"name": self.name, **self.description}, _code_of(self.score)],
                sort_keys=True,
                separators=(",", ":"),
                ensure_ascii=False,
                allow_nan=False,
            )
        except (TypeError, ValueError) as error:
            raise RefusalError(500, f"the description of {self.name} is not JSON-like: {error}") from None
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _code_of(score: Any) -> str | None:
    """Return a digest of a function's source file, or None if it has none; an edited reward gets another digest."""
    while isinstance(score, functools.partial):
        score = score.func
    function = getattr(score, "__func__", score)
    try:
        code = getattr(function, "__code__", None) or type(score).__call__.__code__
        with open(code.co_filename, "rb") as file:
            return hashlib.sha256(file.read().replace(b"\r\n", b"\n")).hexdigest()[:16]
    except (AttributeError, OSError):
        return None


@dataclass(frozen=True)
class Limits:
    """The limits of one request.

    Attributes:
        body_bytes: Bytes of the body.
        outputs: Number of outputs.
        pixels: Pixels of all images together.
        values: Number of JSON values, estimated before parsing: an empty list takes twenty times more memory than its
            two characters.
    """

    body_bytes: int = 256 << 20
    outputs: int = 1024
    pixels: int = 64 << 20
    values: int = 4 << 20


class RewardServer(BoundedServer):
    """A server that listens as soon as it is constructed and answers inside `serve_forever`.

    Args:
        scorer: The reward to serve.
        host: The address to listen at; any address but this machine's loopback needs a token.
        port: The port to listen at; 0 selects a free port.
        token: The token that clients must send as `Authorization: Bearer TOKEN`; None requires none.
        batch_size: The number of outputs scored at once; None scores all outputs of a request at once.
        limits: The limits of a request; None uses the defaults of `Limits`.
        patience: The time limits for clients; None uses the defaults of `Patience`.

    Raises:
        RefusalError: If the server cannot listen at the address, or must not without a token.
    """

    def __init__(
        self,
        scorer: Scorer,
        host: str = "127.0.0.1",
        port: int = PORT,
        token: str | None = None,
        batch_size: int | None = None,
        limits: Limits | None = None,
        patience: Patience | None = None,
    ) -> None:
        if token is None and not _is_loopback(host):
            raise RefusalError(
                403, f"host {host} can be reached from other machines, so it needs a token: --token or TRIMPOT_TOKEN"
            )
        if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token != ""):
            raise RefusalError(403, "the token must be printable ASCII without spaces at its ends, and not empty")
        if batch_size is not None and batch_size < 1:
            raise RefusalError(422, f"the batch size must be at least 1, not {batch_size}")
        self.scorer, self.fingerprint, self.token = scorer, scorer.fingerprint, token
        self.batch_size, self.limits = batch_size, limits or Limits()
        self.slots = threading.Semaphore(SLOTS)
        self.worker = ThreadPoolExecutor(1, "scorer")
        try:
            super().__init__((host, port), _Handler, SLOTS * self.limits.body_bytes, patience or Patience())
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RefusalError(500, f"cannot listen at {host} port {port}: {reason}; choose another --port") from None
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.server_address[1]}"
        self.hosts = {host.lower(), "localhost", "127.0.0.1", "::1"}

    def health(self) -> dict[str, Any]:
        """Return the answer to GET /health."""
        return {
            "protocol": PROTOCOL,
            "name": self.scorer.name,
            "fingerprint": self.fingerprint,
            "description": {"name": self.scorer.name, **self.scorer.description},
            "limits": asdict(self.limits),
            "metadata": self.scorer.prepare is not None,
            "scores_sets": self.scorer.scores_sets,
        }

    def score(self, request: Any) -> dict[str, Any]:
        """Score the outputs of a request, after all earlier requests, and return the answer to POST /score.

        Raises:
            RefusalError: If the request is malformed, or the scorer fails.
        """
        if not isinstance(request, dict):
            raise RefusalError(422, "the request must be a JSON object")
        if type(request.get("protocol")) is not int or request["protocol"] != PROTOCOL:
            raise RefusalError(
                422, f"this server speaks protocol {PROTOCOL}, the request protocol {request.get('protocol')!r}"
            )
        wanted = request.get("fingerprint")
        if wanted is not None and wanted != self.fingerprint:
            raise RefusalError(409, f"this server is {self.scorer.name} {self.fingerprint}, not {wanted}")
        prompts, outputs = request.get("prompts"), request.get("outputs")
        if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts):
            raise RefusalError(422, "'prompts' must be a list of strings")
        if any("\ud800" <= character <= "\udfff" for prompt in prompts for character in prompt):
            raise RefusalError(422, "a prompt holds half a character, such as \\ud83d alone")
        if not isinstance(outputs, list) or len(outputs) != len(prompts):
            count = len(outputs) if isinstance(outputs, list) else "no list of"
            raise RefusalError(422, f"{len(prompts)} prompts need as many 'outputs', not {count}")
        if len(outputs) > self.limits.outputs:
            raise RefusalError(
                413, f"a request of {len(outputs)} outputs is too large; send at most {self.limits.outputs} at once"
            )
        metadata = request.get("metadata", {})
        if not isinstance(metadata, dict) or not all(isinstance(about, dict) for about in metadata.values()):
            raise RefusalError(422, "'metadata' must be an object with an object for every prompt")
        if metadata and self.scorer.prepare is None:
            raise RefusalError(422, f"{self.scorer.name} takes no metadata")
        decoded = _decode(outputs, self.limits.pixels)
        scores = self.worker.submit(self._scores, decoded, prompts, metadata).result()
        return {"fingerprint": self.fingerprint, "scores": scores}

    def _scores(self, outputs: list[Any], prompts: list[str], metadata: dict[str, Any]) -> list[float]:
        if self.scorer.prepare is not None:
            try:
                self.scorer.prepare(metadata)
            except (Exception, SystemExit) as error:
                raise RefusalError(
                    422, f"{self.scorer.name} cannot use the metadata: {type(error).__name__}: {error}"
                ) from error
        size = self.batch_size or max(1, len(prompts))
        scores: list[float] = []
        for begin in range(0, len(prompts), size):
            part = prompts[begin : begin + size]
            try:
                given = itertools.islice(self.scorer.score(outputs[begin : begin + size], part), len(part) + 1)
                found = [_real(score) for score in given]
            except (Exception, SystemExit) as error:  # a foreign reward may raise anything
                show_traceback()
                raise RefusalError(
                    500, f"{self.scorer.name} failed on prompts such as {part[0]!r}: {type(error).__name__}: {error}"
                ) from error
            if len(found) != len(part):
                raise RefusalError(500, f"{self.scorer.name} gave {len(found)} scores for {len(part)} outputs")
            for score, prompt in zip(found, part):  # noqa: B905  # Python 3.9; the lengths were compared above
                if not math.isfinite(score):
                    raise RefusalError(
                        500, f"{self.scorer.name} gave {score} for prompt {prompt!r}; scores must be finite"
                    )
            scores += found
        return scores

    def close(self) -> None:
        """Answer the requests that have begun, refuse all others, and stop listening."""
        self.finish()
        self.worker.shutdown()
        self.server_close()


class _Handler(BoundedHandler):
    """The handler of the two requests, GET /health and POST /score."""

    server: RewardServer

    def do_GET(self) -> None:  # noqa: N802
        self._respond("/health", self._health)

    def do_POST(self) -> None:  # noqa: N802
        self._respond("/score", self._score)

    def _respond(self, path: str, work: Callable[[], None]) -> None:
        self._admit()
        with self.server.admitted(self.connection):
            try:
                if self.path != path:
                    raise RefusalError(
                        404, f"nothing is at {self.command} {self.path[:100]}; there are GET /health and POST /score"
                    )
                work()
            except RefusalError as refusal:
                self.refuse(refusal, max(self.server.limits.body_bytes, DRAINED))

    def _health(self) -> None:
        if self.length() > 0:
            raise RefusalError(400, "GET /health takes no body")
        self.answer(200, self.server.health())

    def _score(self) -> None:
        length = self.length()
        if self.headers.get_content_type() != "application/json":
            raise RefusalError(415, "the request must be of Content-Type application/json")
        if length == 0:
            raise RefusalError(411, "the request must have a body and say its Content-Length")
        if length > self.server.limits.body_bytes:
            raise RefusalError(
                413,
                f"a request of {length} bytes is too large; send at most {self.server.limits.body_bytes}, "
                f"which means fewer outputs at once",
            )
        self._take_slot()  # refuses before the client sends the body in vain
        self.server.slots.release()
        with self.body(length) as body:
            self._take_slot()
            try:
                scores = self.server.score(parsed(body, self.server.limits.values))
            finally:
                self.server.slots.release()
            self.answer(200, scores)

    def _take_slot(self) -> None:
        if not self.server.slots.acquire(blocking=False):
            raise RefusalError(503, f"{SLOTS} requests are waiting already; try again later")

    def _admit(self) -> None:
        """Refuse a client that is not allowed to ask.

        If the server has no token, only requests to a name of the loopback are answered: otherwise a web page could
        reach this server through the user's browser, under a domain name that resolves to the loopback.
        """
        token = self.server.token
        if token is not None:
            shown = self.headers.get("Authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(shown, b"Bearer " + token.encode()):
                raise RefusalError(401, "this server wants a token: set TRIMPOT_TOKEN to the one it was started with")
        elif _hostname(self.headers.get("Host", "")) not in self.server.hosts:
            raise RefusalError(403, "this server answers only under names of its own machine")


def serve(
    scorer: Scorer, host: str = "127.0.0.1", port: int = PORT, token: str | None = None, batch_size: int | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, then answer the requests that have begun; a second signal ends at once.

    Args:
        scorer: The reward to serve.
        host: The address to listen at.
        port: The port to listen at; 0 selects a free port.
        token: The token that clients must send; None requires none.
        batch_size: The number of outputs scored at once; None scores all outputs of a request at once.

    Raises:
        RefusalError: If the server cannot listen at the address, or must not without a token.
    """
    server = RewardServer(scorer, host, port, token, batch_size)
    both = (signal.SIGINT, signal.SIGTERM)

    def stop(*_: Any) -> None:
        for each in both:
            signal.signal(each, signal.SIG_DFL)
        threading.Thread(target=server.shutdown).start()  # shutdown waits for the loop that this signal interrupted

    for each in both:
        signal.signal(each, stop)
    print(f"{scorer.name} listens at {server.url} (fingerprint {server.fingerprint})", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.close()


def main(
    load: Callable[[argparse.Namespace], Scorer],
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None = None,
) -> None:
    """Run the command line of a script that serves one reward.

    Args:
        load: Makes the scorer from the parsed arguments.
        parser: The parser with the script's own arguments; this function adds the arguments of the server.
        arguments: The arguments to parse; None uses those of the process.
    """
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; one that others reach needs a token")
    parser.add_argument("--port", type=int, default=PORT, help="port to listen at; 0 selects a free port")
    parser.add_argument("--token", default=os.environ.get("TRIMPOT_TOKEN"), help="default: $TRIMPOT_TOKEN")
    parser.add_argument("--batch-size", type=int, help="outputs scored at once; default: all outputs of a request")
    options = parser.parse_args(arguments)
    try:
        serve(load(options), options.host, options.port, options.token, options.batch_size)
    except RefusalError as refusal:
        sys.exit(f"{parser.prog}: {refusal}")


def _decode(outputs: list[Any], pixels: int) -> list[Any]:
    """Decode the outputs of a request to PIL images and JSON values."""
    decoded = []
    for index, output in enumerate(outputs):
        if not isinstance(output, dict) or set(output) not in ({"png"}, {"json"}):
            raise RefusalError(422, f'output {index} must be {{"png": base64}} or {{"json": value}}')
        if "json" in output:
            decoded.append(output["json"])
        else:
            image = _image(output["png"], index, pixels)
            pixels -= image.width * image.height
            decoded.append(image)
    return decoded


def _image(text: Any, index: int, pixels: int) -> Any:
    """Decode a PIL image from base64 PNG; an image of more than `pixels` pixels is refused before decompression."""
    try:
        from PIL import Image
    except ImportError:
        raise RefusalError(500, "this server's environment lacks Pillow, without which it can take no images") from None
    try:
        image = Image.open(io.BytesIO(binascii.a2b_base64(text)), formats=("PNG",))
        if image.width * image.height <= pixels:
            image.load()
    except Exception as error:  # Pillow raises many classes of error for bytes that are no image
        raise RefusalError(422, f"output {index} is no PNG image in base64: {type(error).__name__}: {error}") from None
    if image.width * image.height > pixels:
        raise RefusalError(
            413, f"output {index} has {image.width} x {image.height} pixels, more than the request may have"
        )
    return image


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _hostname(header: str) -> str:
    """Return the name in a Host header, without port and brackets."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    return name.strip("[]").lower()


def _real(score: Any) -> float:
    """Convert a score to float, and refuse texts and complex numbers."""
    if isinstance(score, (str, bytes)) or (isinstance(score, numbers.Complex) and not isinstance(score, numbers.Real)):
        raise TypeError(f"a score must be a real number, not a {type(score).__name__}")
    return float(score)
