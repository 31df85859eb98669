"""The pages of a study's raters, and where their answers arrive.

with rater_pages(folder, study) as pages:
    Server(pages.routes, admits=pages.admits).run()
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ..ground.errors import StoreError
from ..storage import RaterRow, SqliteStore, Studies
from ..web.guard import refused
from .rating import Rating, Reply

PAGES = Path(__file__).parent / "pages"
KINDS = {"rater.html": "text/html", "rater.css": "text/css", "rater.js": "text/javascript"}
Made = TypeVar("Made")


class RaterPages:
    """What a server shows to the raters of a study.

    All work with the store is done one after the other by one thread, so answers that arrive at once wait in a line,
    and a slow disk stops no page from loading.

    Attributes:
        raters: The raters by token.
        routes: The pages.

    Args:
        rating: The study; it belongs to the thread of `pool`.
        pool: A pool of one thread.
        raters: The raters by token.
        image_bytes: Returns the PNG file of a picture.
    """

    def __init__(
        self,
        rating: Rating,
        pool: ThreadPoolExecutor,
        raters: Mapping[str, RaterRow],
        image_bytes: Callable[[str], bytes],
    ) -> None:
        self._rating, self._pool, self._image_bytes = rating, pool, image_bytes
        self.raters = dict(raters)
        files = {name: (PAGES / name).read_bytes() for name in KINDS}
        self.routes = [
            Route("/", self._fixed(files["rater.html"], KINDS["rater.html"])),
            *(Route(f"/{name}", self._fixed(files[name], KINDS[name])) for name in ("rater.css", "rater.js")),
            Route("/state", self._state),
            Route("/answer", self._answer, methods=["POST"]),
            Route("/pictures/{name}", self._picture),
        ]

    def admits(self, token: str) -> bool:
        """Return whether a token is a rater's."""
        return token in self.raters

    def _fixed(self, content: bytes, kind: str) -> Callable[[Request], Any]:
        async def page(request: Request) -> Response:
            if request.scope["token"] not in self.raters:
                return refused(404, "this is no rater's link; each rater has one, printed when the study was begun")
            return Response(content, media_type=kind)

        return page

    async def _state(self, request: Request) -> Response:
        rater = self._rater(request)
        return await self._replied(lambda: Reply(200, {"rater": rater.number, **self._rating.state(rater)}))

    async def _answer(self, request: Request) -> Response:
        rater = self._rater(request)
        try:
            sent = json.loads(await request.body())
        except (ValueError, RecursionError):
            return JSONResponse({"error": "an answer is a JSON object; open your link again"}, 400)

        def answered() -> Reply:
            own = {"rater": rater.number}
            if isinstance(sent, Mapping) and sent.get("rater", rater.number) != rater.number:
                sentence = "another rater's link was opened in this browser; this page now shows that rater's pairs"
                return Reply(409, {"error": sentence, **own, **self._rating.state(rater)})
            reply = self._rating.answer(rater, sent)
            return Reply(reply.status, {**own, **reply.content})

        return await self._replied(answered)

    async def _picture(self, request: Request) -> Response:
        rater, name = self._rater(request), request.path_params["name"]
        file = await self._by_the_thread(lambda: self._rating.picture(rater, name))
        if file is None:
            return refused(404, "there is no such picture, or it is not its turn yet")
        content = await self._by_the_thread(lambda: self._image_bytes(file))
        return Response(content, media_type="image/png", headers={"cache-control": "private, max-age=3600"})

    def _rater(self, request: Request) -> RaterRow:
        rater = self.raters.get(request.scope["token"] or "")
        if rater is None:
            raise StoreError("this is no rater's link")
        return rater

    async def _replied(self, work: Callable[[], Reply]) -> Response:
        try:
            reply = await self._by_the_thread(work)
        except StoreError as error:  # a full disk, a transaction of another program: the page tries again
            return JSONResponse({"error": f"Your answer is not kept yet: {error}"}, 503)
        return JSONResponse(reply.content, reply.status)

    async def _by_the_thread(self, work: Callable[[], Made]) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


@contextlib.contextmanager
def rater_pages(folder: Path, study: str) -> Iterator[RaterPages]:
    """Open a study for its raters; while it is open, it cannot be deleted or served by another process.

    Args:
        folder: The store's folder.
        study: The study's name.

    Raises:
        StoreError: If there is no such study, it is served already, or the store cannot be written.
    """
    with ThreadPoolExecutor(1, "study") as pool:
        store = pool.submit(SqliteStore, folder, create=False).result()
        try:
            with contextlib.ExitStack() as held:
                pool.submit(_lock, store, study, held).result()
                rating = pool.submit(Rating, store, study).result()
                studies = Studies(store)
                raters = pool.submit(studies.raters, study).result()
                yield RaterPages(rating, pool, {each.token: each for each in raters}, studies.image_bytes)
        finally:
            pool.submit(store.close).result()


def _lock(store: SqliteStore, study: str, held: contextlib.ExitStack) -> None:
    store.refuse_read_only()
    if store.locked(study):
        raise StoreError(
            f"{study} is being served by another process; its raters' links work there, and "
            f"`trimpot study {study} --results` shows what they have answered"
        )
    held.enter_context(store.lock(study))
