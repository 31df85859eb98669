"""A live page of all runs of a folder, which reads the store and writes nothing."""

from ..ground.extras import require

require("the live page", "starlette", "uvicorn")

from .site import watch_server  # noqa: E402

__all__ = ["watch_server"]
