"""Contracts for plugin authors: test classes to inherit, one for each seam.

    from trimpot.testing import ObjectiveContract

    class TestMyReward(ObjectiveContract):
        @pytest.fixture
        def objective(self):
            return MyReward()

        @pytest.fixture
        def examples(self):
            return [(picture, "a red circle"), (other, "two blue squares")]

Needs pytest and hypothesis: `pip install trimpot[test]`. For test suites only; nothing else imports it.
"""

from .adapter import AdapterContract
from .objective import ObjectiveContract
from .optimizer import OptimizerContract
from .store import StoreContract

__all__ = ["AdapterContract", "ObjectiveContract", "OptimizerContract", "StoreContract"]
