"""Contracts for plugin authors: test classes to inherit, one for each seam.

    from trimpot.testing import ObjectiveContract

    class TestMyReward(ObjectiveContract):
        @pytest.fixture
        def objective(self):
            return MyReward()

        @pytest.fixture
        def examples(self):
            return [(picture, "a red circle"), (other, "two blue squares")]

Needs pytest and hypothesis: `pip install trimpot[test]`. For test suites only; nothing else imports it. The contract
of a transformer class (`trimpot.testing.transformer`) needs neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adapter import AdapterContract
    from .combination import CombinationContract
    from .objective import ObjectiveContract
    from .optimizer import OptimizerContract
    from .store import StoreContract

__all__ = ["AdapterContract", "CombinationContract", "ObjectiveContract", "OptimizerContract", "StoreContract"]


def __getattr__(name: str) -> Any:
    """Import a contract when it is asked for: one that needs no pytest then works without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{name.removesuffix('Contract').lower()}", __name__), name)
