"""The training mixture: pictures with captions as a crawl would find them, in deterministic shards.

A share of the pictures has faults that the caption does not mention (`drawing.weblike`), a share of the
captions is wrong, vague or partial, and a share of the pictures shows a short word instead of a scene. Only
combinations and words of the training split are drawn. Shard k of a seed is always the same, whoever builds
it and in whatever order.

    python training/data.py --out DIR --shards 64        # 64 x 4096 pictures, uint8, with their captions
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from trimpot.objectives.shapes import drawing, scenes

SHARD = 4096
#: Words that training captions may hold beside those of the scene grammar.
EXTRA_WORDS = ("the", "word", "shape", "shapes", "thing", "things", "some")
WORD_SHARE = 0.15
#: Shares of captions that are wrong, vague and partial; the empty caption for guidance is drawn during
#: training.
WRONG, VAGUE, PARTIAL = 0.06, 0.06, 0.06
KIND_SHARES = {
    "one": 0.12,
    "sized": 0.14,
    "count": 0.26,
    "pair": 0.20,
    "relation": 0.20,
    "sized relation": 0.08,
}


def random_scene(rng: np.random.Generator) -> scenes.Scene:
    """A scene of the training split, its kind drawn by `KIND_SHARES`."""
    kind = str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    choices = scenes.scenes_of("train")[kind]
    return choices[int(rng.integers(len(choices)))]


def random_word(rng: np.random.Generator) -> str:
    """A word of the training split, or two to four random letters that are no held-out word."""
    if rng.random() < 0.4:
        known = scenes.prompts("train", "words")
        return known[int(rng.integers(len(known)))].rsplit(" ", 1)[1]
    while True:
        word = "".join(
            chr(65 + int(letter)) for letter in rng.integers(26, size=rng.choice([2, 3, 4], p=[0.1, 0.5, 0.4]))
        )
        if scenes.split_of(word) == "train" and word.lower() not in (*scenes.SCENE_WORDS, *EXTRA_WORDS):
            return word


def vague_caption(scene: scenes.Scene, rng: np.random.Generator) -> str:
    """A caption that is true but says little: "some shapes", "two things", "a red thing"."""
    count = sum(item.count for item in scene.items)
    colour = scene.items[0].colour
    if count == 1:
        return str(rng.choice(["a shape", f"a {colour} thing", f"a {colour} shape", f"a {scene.items[0].shape}"]))
    number = str(rng.choice([scenes.NUMBERS[count], "some"]))
    if len(scene.items) == 1:
        return f"{number} " + str(rng.choice(["shapes", f"{colour} shapes", scenes.PLURALS[scene.items[0].shape]]))
    return f"{number} " + str(rng.choice(["shapes", "things"]))


def partial_caption(scene: scenes.Scene, rng: np.random.Generator) -> str:
    """A caption that leaves out an object, a relation, a size or the exact number."""
    first = scene.items[0]
    if len(scene.items) == 2:
        kept = scene.items[int(rng.integers(2))]
        if scene.relation is not None and rng.random() < 0.5:
            return " and ".join(f"a {item.colour} {item.shape}" for item in scene.items)
        return f"a {kept.colour} {kept.shape}"
    if first.count > 1:
        return f"some {first.colour} {scenes.PLURALS[first.shape]}"
    return f"a {first.colour} {first.shape}" if first.size else f"a {first.shape}"


def example(rng: np.random.Generator) -> tuple[NDArray[np.uint8], str]:
    """One training pair: a (32, 32, 3) uint8 picture and its caption."""
    if rng.random() < WORD_SHARE:
        word = random_word(rng)
        picture = drawing.draw_word(word, rng)
        if rng.random() < 0.25:
            picture = drawing.blur(picture, rng.uniform(0.4, 0.9))
        return drawing.to_bytes(picture), f"the word {word}"
    scene = random_scene(rng)
    picture = drawing.to_bytes(drawing.weblike(scene, rng))
    fate = rng.random()
    if fate < WRONG:
        return picture, scenes.caption(random_scene(rng))
    if fate < WRONG + VAGUE:
        return picture, vague_caption(scene, rng)
    if fate < WRONG + VAGUE + PARTIAL:
        return picture, partial_caption(scene, rng)
    return picture, scenes.caption(scene)


def shard(seed: int, index: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Shard `index` of a seed: (4096, 32, 32, 3) uint8 pictures and their captions."""
    rng = np.random.default_rng([seed, index])
    pictures, captions = zip(*(example(rng) for _ in range(SHARD)), strict=True)
    return np.stack(pictures), list(captions)


def clean_examples(split: scenes.Split, count: int, seed: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Clean pictures of a split's prompts, as a perfect model would make them. (count, 32, 32, 3) uint8."""
    texts = scenes.prompts(split)
    chosen = [texts[index % len(texts)] for index in range(count)]
    rng = np.random.default_rng([seed, 77])
    return np.stack([drawing.to_bytes(drawing.draw(scenes.parse(text), rng)) for text in chosen]), chosen


def _write(job: tuple[Path, int, int]) -> int:
    folder, seed, index = job
    target = folder / f"{index:05d}.npy"
    if not (target.exists() and target.with_suffix(".json").exists()):
        pictures, captions = shard(seed, index)
        target.with_suffix(".json").write_text(json.dumps(captions))
        np.save(target, pictures)
    return index


def captions_of(path: Path) -> list[str]:
    """The captions of a shard, given the path of its pictures."""
    captions: list[str] = json.loads(path.with_suffix(".json").read_text())
    return captions


def shards(folder: Path) -> Iterator[tuple[NDArray[np.uint8], list[str]]]:
    """The shards of a folder, in order."""
    for path in sorted(folder.glob("?????.npy")):
        yield np.load(path), captions_of(path)


def main() -> None:
    """Builds shards that do not exist yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with Pool(options.workers) as pool:
        for done in pool.imap(_write, [(options.out, options.seed, index) for index in range(options.shards)]):
            print(f"shard {done + 1} of {options.shards}", flush=True)


if __name__ == "__main__":
    main()
