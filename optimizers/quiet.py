"""The context for every call of a search library."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


@contextmanager
def quietly() -> Iterator[None]:
    """Limit BLAS to one thread, because more are many times slower on small matrices, and silence warnings."""
    with _controller(len(sys.modules)).limit(limits=1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@lru_cache(maxsize=1)
def _controller(num_modules: int) -> ThreadpoolController:
    """Return a controller of the loaded BLAS libraries; the search takes milliseconds and repeats after new imports."""
    return ThreadpoolController()
