"""The reward server: any scorer behind HTTP, for rewards that cannot live in the process that asks for them.

    GET  /health  ->  {"protocol", "name", "fingerprint", "description", "limits", "metadata",
                       "scores_sets"}
    POST /score   {"protocol", "prompts": [...], "outputs": [{"png": base64} | {"json": value}, ...], "fingerprint"?,
                   "metadata"?: {prompt: {...}, ...}}
                  ->  {"fingerprint", "scores": [...]}
    whatever fails ->  {"error": one sentence} with a status of 400 or more

This file and `bounded_http.py` are all a server needs: they import the standard library, and Pillow once an image
arrives. They run on Python 3.9, so that they can be copied or imported beside whatever a reward's own code insists on;
nothing is unpickled. One thread scores, always the same, because models are seldom safe to call from two.
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
else:  # beside a reward's own code
    from bounded_http import DRAINED, BoundedHandler, BoundedServer, Patience, RefusalError, parsed, show_traceback

__all__ = ["PORT", "PROTOCOL", "SLOTS", "Limits", "Patience", "RefusalError", "RewardServer", "Scorer", "main", "serve"]

PROTOCOL = 1
PORT = 8200
#: Requests that have arrived and wait or are scored; one more is told to come back later.
SLOTS = 8


@dataclass(frozen=True)
class Scorer:
    """What is served.

    Attributes:
        name: What people call it.
        score: Gives every output, seen with its prompt, a finite number. Images arrive as PIL images, everything
            else as JSON values.
        description: Everything that can change a score, JSON-like: weights, revision, options, library versions.
        prepare: Is given what prompt files say of a request's prompts before these are scored; None where that
            changes no score.
        scores_sets: Whether a score depends on the prompt's other outputs too, which then arrive in one request.
    """

    name: str
    score: Callable[[list[Any], list[str]], Iterable[Any]]
    description: Mapping[str, Any]
    prepare: Callable[[Mapping[str, Mapping[str, Any]]], None] | None = None
    scores_sets: bool = False

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with name, description, and the file that scores are calculated in.

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
    """A digest of the source file of a function, so that an edited reward is another one; None where there is none."""
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
    """What one request may hold at most.

    Attributes:
        body_bytes: Bytes of its body.
        outputs: Outputs.
        pixels: Pixels of all its images together.
        values: Values of JSON, counted before one is made: in memory an empty list is twenty times its two letters.
    """

    body_bytes: int = 256 << 20
    outputs: int = 1024
    pixels: int = 64 << 20
    values: int = 4 << 20


class RewardServer(BoundedServer):
    """A server that listens once it is made and answers inside `serve_forever`.

    Args:
        scorer: What to serve.
        host: Where to listen; anything but this machine's loopback needs a token.
        port: Where to listen; 0 takes a free one.
        token: What a client must show, as `Authorization: Bearer TOKEN`.
        batch_size: Outputs scored at once; None scores a request whole.
        limits: What one request may hold; None takes the defaults of `Limits`.
        patience: How long clients are waited for; None takes the defaults of `Patience`.

    Raises:
        RefusalError: In one sentence, if it cannot listen there or must not.
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
        """What this server is."""
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
        """Score what a request asks for, after those that came before it.

        Raises:
            RefusalError: If the request is not as it must be, or the scorer fails.
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
            except (Exception, SystemExit) as error:  # somebody else's reward may fail in any way
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
        """Finish what has been begun, refuse what has not, and stop listening."""
        self.finish()
        self.worker.shutdown()
        self.server_close()


class _Handler(BoundedHandler):
    """Who may ask, and for what."""

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
        self._take_slot()  # or the body would be sent in vain
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
        """Refuse who may not ask.

        Without a token, a page in somebody's browser could reach this server under a name of its own that leads
        to the loopback; so only names of the loopback are answered.
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
    """Serve until SIGINT or SIGTERM, then finish what is being scored; a second signal ends it at once.

    Raises:
        RefusalError: In one sentence, if it cannot listen there or must not.
    """
    server = RewardServer(scorer, host, port, token, batch_size)
    both = (signal.SIGINT, signal.SIGTERM)

    def stop(*_: Any) -> None:
        for each in both:
            signal.signal(each, signal.SIG_DFL)
        threading.Thread(target=server.shutdown).start()  # which waits for the loop that this signal interrupted

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
    """The command line of a script that serves one reward.

    Args:
        load: Makes the scorer from the parsed arguments.
        parser: Knows the script's own arguments; where to listen is added here.
        arguments: Instead of the process's own.
    """
    parser.add_argument("--host", default="127.0.0.1", help="where to listen; other machines' reach needs a token")
    parser.add_argument("--port", type=int, default=PORT, help="where to listen; 0 takes a free one")
    parser.add_argument("--token", default=os.environ.get("TRIMPOT_TOKEN"), help="default: $TRIMPOT_TOKEN")
    parser.add_argument("--batch-size", type=int, help="outputs scored at once; default: a request's all")
    options = parser.parse_args(arguments)
    try:
        serve(load(options), options.host, options.port, options.token, options.batch_size)
    except RefusalError as refusal:
        sys.exit(f"{parser.prog}: {refusal}")


def _decode(outputs: list[Any], pixels: int) -> list[Any]:
    """Outputs as a scorer takes them."""
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
    """A PIL image from base64 PNG, of at most so many pixels; nothing is decompressed before they are counted."""
    try:
        from PIL import Image
    except ImportError:
        raise RefusalError(500, "this server's environment lacks Pillow, without which it can take no images") from None
    try:
        image = Image.open(io.BytesIO(binascii.a2b_base64(text)), formats=("PNG",))
        if image.width * image.height <= pixels:
            image.load()
    except Exception as error:  # Pillow says in many ways that bytes are no image
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
    """The name in a Host header, without port and brackets."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
    return name.strip("[]").lower()


def _real(score: Any) -> float:
    """A score as a number, where nothing of it gets lost."""
    if isinstance(score, (str, bytes)) or (isinstance(score, numbers.Complex) and not isinstance(score, numbers.Real)):
        raise TypeError(f"a score must be a real number, not a {type(score).__name__}")
    return float(score)
