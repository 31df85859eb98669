"""Pages that a browser asks this machine for: who may ask, and how they are served until Ctrl-C."""

from ..ground.extras import require

require("a page in the browser", "starlette", "uvicorn")

from .serving import Server  # noqa: E402

__all__ = ["Server"]
