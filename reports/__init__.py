"""Reports: the progress of a run on a terminal, and its self-contained HTML page."""

from .gallery import write_images
from .page import write_report

__all__ = ["write_images", "write_report"]
