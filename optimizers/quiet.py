"""What surrounds every call into a search library."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController


@contextmanager
def quietly() -> Iterator[None]:
    """One BLAS thread (small matrices are many times slower with more) and no warnings of the library's own."""
    with _controller(len(sys.modules)).limit(limits=1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@lru_cache(maxsize=1)
def _controller(num_modules: int) -> ThreadpoolController:
    """Looks for BLAS libraries, which takes milliseconds: again only after something has been imported."""
    return ThreadpoolController()
