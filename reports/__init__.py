"""Reports: what a run shows on a terminal, and the self-contained page it leaves behind."""

from .gallery import write_images
from .page import write_report

__all__ = ["write_images", "write_report"]
