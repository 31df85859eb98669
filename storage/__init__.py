"""The SQLite store: every evaluation of every run, committed one by one."""

from ..ground.extras import require

require("the store of runs", "sqlite_utils")

from .analyses import Analyses, AnalysisPlaces, AnalysisRow  # noqa: E402
from .comparisons import ComparisonRow, Comparisons  # noqa: E402
from .looking import Look  # noqa: E402
from .runs import RunRow  # noqa: E402
from .store import SqliteStore  # noqa: E402
from .studies import Answer, RaterRow, Studies, StudyRow  # noqa: E402

__all__ = [
    "Analyses",
    "AnalysisPlaces",
    "AnalysisRow",
    "Answer",
    "ComparisonRow",
    "Comparisons",
    "Look",
    "RaterRow",
    "RunRow",
    "SqliteStore",
    "Studies",
    "StudyRow",
]
