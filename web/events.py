"""Server-sent events: a page that is told what is new, for as long as somebody looks at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import StreamingResponse

TICK = 0.25  # seconds between two looks at whether the server is about to stop
SILENCE = 10.0  # seconds after which a sign of life is sent, so that a reader that has gone is noticed


def event_stream(request: Request, news: Callable[[], str | None], every: float) -> StreamingResponse:
    """Return an answer that tells a browser what is new until it goes away or the server stops.

    Args:
        request: The request of the browser.
        news: Returns what to tell as a line of text, or None if nothing is new; called in a thread.
        every: Seconds between two calls. A browser that reads slowly is told less often, and then the latest.
    """

    async def told() -> AsyncIterator[str]:
        yield "retry: 2000\n\n"  # milliseconds, after which a browser that has lost the server asks again
        silent = 0.0
        while not request.scope["stopping"]():
            said = await run_in_threadpool(news)
            silent = 0.0 if said is not None else silent + every
            if said is not None:
                yield f"data: {said}\n\n"
            elif silent >= SILENCE:
                silent = 0.0
                yield ": nothing new\n\n"
            left = every
            while left > 0 and not request.scope["stopping"]():
                await asyncio.sleep(min(TICK, left))
                left -= TICK

    return StreamingResponse(told(), media_type="text/event-stream")
