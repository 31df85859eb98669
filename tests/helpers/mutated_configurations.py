"""Configurations with mistakes in them: bytes of a file and words typed after it, the same for a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

WHOLE = """\
name: my-run
adapter: {name: sphere, num_knobs: 4, noise: 0.1, world: 2}
objectives:
  value: {weight: 1.0}
  entropy: {weight: 0}
combine: {name: winrate, references: 2, temperature: {value: 1.0}}
prompts: numbers
protocol: null
optimizer:
  name: cma-es
  sigma0: 0.25
  population_size: 8
  diagonal: true
generations: 3
bucket_size: 4
group_size: 4
seeds_per_prompt: 1
seed: 5
start: null
budget: {images: 900, seconds: 60.5, gpu_hours: null, devices: 1}
keep: none
plugins: []
validation: {num_prompts: 8, every: 2, patience: 3, significance: 0.1, seed: 1}
test: &test {num_prompts: 8, seed: 2}
by_steps: {steps: [], num_prompts: 4}
sensitivity: {num_prompts: 2, step: 0.25, most: 3.0}
"""
TYPED = ["generations=4", "optimizer.sigma0=0.1", "protocol=published", "optimizer=random", "objectives=value"]
SCALARS = (
    *(".inf", "-.inf", ".nan", "1e308", "-1e308", "1e-320", "1e400", "-1", "0", "1", "2", "+1", ".5", "5.", "1e5"),
    *("010", "0x7f", "1_000", "0.1.2", "12:30", "2026-01-01", "9223372036854775808", "99999999999999999999999"),
    *("yes", "no", "on", "off", "true", "false", "null", "~", "''", '""', "text", "\u00e9", "\u2028", r'"\uD800"'),
    *("[]", "{}", "[1,2]", "{a: 1}", "{a:1}", "*test", "<<", "!!str", "!!python/none", "?", "-", "|", ">", r'"\0"'),
    *("grouped", "nevergrad:DE", "nevergrad", "sphere", "shapes", "numbers", "value", "winrate", "pareto", "adaptive"),
    *("constrained", "published", "gate", "'\t'", "9" * 5_000),
)
BYTES = [
    b"\x00",
    b"\xff",
    b"\t",
    b"\r",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"---\n",
    b"...\n",
    b"#",
    b"'",
    b'"',
    b"%",
    b"&",
]
BYTES += [
    b"*",
    b"!",
    b"|",
    b">",
    b"[",
    b"{",
    b"}",
    b"]",
    b",",
    b":",
    b"?",
    b"- ",
    b"\n",
    b"  ",
    b"@",
    b"`",
    b"=",
    b"<<: ",
]

Mutation = Callable[[random.Random, bytes], bytes]


def mutated_configurations(seed: int) -> Iterator[tuple[bytes, list[str]]]:
    """Without end, a file's content and the overrides typed after it; most have something wrong with them."""
    draw = random.Random(seed)
    while True:
        text = WHOLE.encode()
        for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
            text = draw.choice(MUTATIONS)(draw, text)
        yield text, [_typed(draw) for _ in range(draw.choice((0, 0, 0, 1, 2)))]


def _lines(text: bytes) -> list[bytes]:
    return text.split(b"\n")


def _another_value(draw: random.Random, text: bytes) -> bytes:
    """What stands behind one of the colons is exchanged."""
    places = [index for index, byte in enumerate(text) if byte == ord(":")]
    if not places:
        return text
    begin = draw.choice(places) + 1
    end = min((text.find(mark, begin) % (len(text) + 1) for mark in (b",", b"}", b"\n")), default=len(text))
    return text[:begin] + b" " + draw.choice(SCALARS).encode("utf-8", "replace") + text[end:]


def _another_number(draw: random.Random, text: bytes) -> bytes:
    """A number becomes another sensible one."""
    places = [
        index for index in range(1, len(text)) if text[index - 1 : index] == b" " and text[index : index + 1].isdigit()
    ]
    place = draw.choice(places) if places else 0
    return text[:place] + str(draw.choice((1, 2, 4, 8, 16, 0.5))).encode() + text[place + 1 :] if places else text


def _another_key(draw: random.Random, text: bytes) -> bytes:
    words = [word for word in text.replace(b"{", b" ").split() if word.endswith(b":")]
    if not words:
        return text
    word = draw.choice(words)
    letter = draw.randrange(len(word))
    changed = draw.choice(
        (word[:letter] + word[letter + 1 :], word.upper(), draw.choice(words), b"1:", b"true:", b"~:")
    )
    return text.replace(word, changed, 1)


def _a_line_again(draw: random.Random, text: bytes) -> bytes:
    lines = _lines(text)
    lines.insert(draw.randrange(len(lines)), draw.choice(lines))
    return b"\n".join(lines)


def _a_line_gone(draw: random.Random, text: bytes) -> bytes:
    lines = _lines(text)
    del lines[draw.randrange(len(lines))]
    return b"\n".join(lines)


def _indented(draw: random.Random, text: bytes) -> bytes:
    lines = _lines(text)
    line = draw.randrange(len(lines))
    lines[line] = draw.choice((b"  ", b" ", b"\t", b"- ", b"? ")) + lines[line]
    return b"\n".join(lines)


def _bytes_in(draw: random.Random, text: bytes) -> bytes:
    place = draw.randrange(len(text) + 1)
    return text[:place] + draw.choice(BYTES) + text[place:]


def _a_byte_changed(draw: random.Random, text: bytes) -> bytes:
    place = draw.randrange(max(1, len(text)))
    return text[:place] + bytes([draw.randrange(256)]) + text[place + 1 :]


def _cut(draw: random.Random, text: bytes) -> bytes:
    return text[: draw.randrange(len(text) + 1)]


def _nested(draw: random.Random, text: bytes) -> bytes:
    depth = draw.choice((3, 31, 33, 2_000))
    key = draw.choice((b"start", b"adapter", b"ladder", b"extra", b"keep"))
    return text + key + b": " + b"[" * depth + b"]" * draw.choice((depth, depth - 1))


def _aliases(draw: random.Random, text: bytes) -> bytes:
    lines = [b"x0: &x0 [a, a]"]
    lines += [b"x%d: &x%d [%s]" % (n, n, b", ".join([b"*x%d" % (n - 1)] * 9)) for n in range(1, draw.choice((2, 30)))]
    return text + b"\n".join(lines)


MUTATIONS: list[Mutation] = [
    *[_another_value] * 4,
    *[_another_number] * 6,
    *[_another_key] * 2,
    *(_a_line_again, _a_line_gone, _indented, _bytes_in, _a_byte_changed, _cut, _nested, _aliases),
]


def _typed(draw: random.Random) -> str:
    """An override, more often wrong than not."""
    word = draw.choice(TYPED)
    key, _, value = word.partition("=")
    return draw.choice(
        (
            word,
            f"{key}={draw.choice(SCALARS)}",
            f"{key}{draw.choice('.-_ =')}{value}={draw.choice(SCALARS)}",
            f"{key} = {value}",
            f"{key}.deeper.still={value}",
            key,
            f"={value}",
            f"{key}=",
            word.upper(),
            f"{key[:-1]}={value}",
        )
    )
