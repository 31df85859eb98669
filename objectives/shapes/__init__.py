"""The shapes world: small scenes, their captions, their pictures, and the checker that scores pictures.

`scenes` contains the vocabulary and the caption grammar, `drawing` the renderer, `checker` the reward. None of these
modules imports torch: the reward must be cheap to import and to run.
"""

from .checker import Verdict, check
from .scenes import Item, Scene, caption, parse, prompts

__all__ = ["Item", "Scene", "Verdict", "caption", "check", "parse", "prompts"]
