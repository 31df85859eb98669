"""Contracts for plugin authors: test classes to inherit, one for each seam.

    from trimpot.testing import ObjectiveContract

    class TestMyReward(ObjectiveContract):
        @pytest.fixture
        def objective(self):
            return MyReward()

        @pytest.fixture
        def examples(self):
            return [(picture, "a red circle"), (other, "two blue squares")]

The contracts need pytest and hypothesis: `pip install 'trimpot[test]'`. They are for test suites only; no other module
imports them. The contract of a transformer class (`trimpot.testing.transformer`) needs neither package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..ground.extras import EXTRAS, require

if TYPE_CHECKING:
    from .adapter import AdapterContract
    from .combination import CombinationContract
    from .objective import ObjectiveContract
    from .optimizer import OptimizerContract
    from .store import StoreContract

__all__ = ["AdapterContract", "CombinationContract", "ObjectiveContract", "OptimizerContract", "StoreContract"]


def __getattr__(name: str) -> Any:
    """Import a contract at its first use, so that contracts without pytest work if pytest is not installed."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require(f"the {name}", *EXTRAS["test"])
    return getattr(import_module(f".{name.removesuffix('Contract').lower()}", __name__), name)
