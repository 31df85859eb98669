"""Read YAML strictly, so that no value is misunderstood.

Scalars have their meaning in YAML 1.2: only `true` and `false` are truth values, `1e-3` is a number, `12:30` and dates
are text. `yes`, `no`, `on` and `off` are text too; a true-or-false option accepts them. A scalar that two versions of
YAML read as different numbers, such as `010`, is refused. So is everything that may hide a mistake: a repeated key, a
key that is no text, a second document, tags of other programs, and excessive nesting.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from typing import Any

import yaml

from ..ground.errors import ConfigError
from ..ground.plain import DEEPEST, short
from .mistakes import listed

LONGEST = 1_000_000  # characters; a configuration usually has a few hundred
MOST_VALUES = 20_000  # including the repetitions by aliases
_STANDARD = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
MOST_DIGITS = 400  # no float needs more
_OCTAL = re.compile(r"[-+]?0[0-9_]+")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema; `_` may group digits."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own, emptied


_PATTERNS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}
for _name, (_pattern, _first) in _PATTERNS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})\\Z"), _first)


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "")
    return int(text, {"0o": 8, "0x": 16}.get(text[:2].lower(), 10))


def _real(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = node.value.replace("_", "").lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)
_Loader.add_constructor("tag:yaml.org,2002:float", _real)


def read_yaml(text: str, where: str) -> Any:
    """Read the value of a YAML text.

    Args:
        text: A text with a single document.
        where: The name of the text in an error message.

    Raises:
        ConfigError: With line numbers, if the text is not YAML, or is ambiguous.
    """
    if len(text) > LONGEST:
        raise ConfigError(f"{where} has {len(text):,} characters; a configuration has at most {LONGEST:,}")
    try:
        _look_over(text, where)
        node = yaml.compose(text, Loader=_Loader)
        if node is None:
            return None
        _count(node, where)
        if mistakes := list(_mistakes(node)):
            raise ConfigError(listed(where, mistakes))
        return _Loader("").construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML{_line_of(error)}: {_problem(error)}") from None
    except ValueError as error:  # a tag that its value contradicts
        raise ConfigError(f"{where} holds a value that cannot be read: {' '.join(str(error).split())}") from None


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """Return the line number of every key and list item, by the keys that lead to it, in a text that `read_yaml` read.

    A key inserted by a merge (`<<`) has the line number of the key in the merged mapping.
    """
    node = yaml.compose(text, Loader=_Loader)
    return dict(_lines(node, ())) if node is not None else {}


def _lines(node: yaml.Node, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        merged = [value for key, value in node.value if key.tag.endswith(":merge")]
        for each in merged:  # first, since the mapping's own keys override merged ones
            for source in reversed(each.value) if isinstance(each, yaml.SequenceNode) else [each]:
                yield from _lines(source, place)
        for key, value in node.value:
            if not key.tag.endswith(":merge"):
                yield (*place, key.value), key.start_mark.line + 1
                yield from _lines(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*place, str(index)), value.start_mark.line + 1
            yield from _lines(value, (*place, str(index)))


def _look_over(text: str, where: str) -> None:
    """Refuse a text before it is composed: for excessive nesting, foreign tags, or a second document."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = (event.start_mark.line if event.start_mark else 0) + 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST:
                raise ConfigError(f"{where}, line {line} is nested more than {DEEPEST} deep; make it flatter")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise ConfigError(f"{where}, line {line} begins a second document; give each a file of its own")
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!" and tag not in _STANDARD:
            told = str(tag).replace("tag:yaml.org,2002:", "!!")
            raise ConfigError(f"{where}, line {line} has the tag {short(told)}, which is not read; write plain values")


def _count(root: yaml.Node, where: str) -> None:
    """Refuse a text whose aliases expand to too many values, or whose values contain themselves."""
    counted: dict[int, int] = {}

    def size(node: yaml.Node, above: frozenset[int]) -> int:
        if id(node) in above:
            raise ConfigError(f"{where}, line {node.start_mark.line + 1} holds itself, by an alias; write it out")
        if id(node) not in counted:
            inside = above | {id(node)}
            counted[id(node)] = 1 + sum(size(child, inside) for child in _children(node))
        return counted[id(node)]

    if (total := size(root, frozenset())) > MOST_VALUES:
        raise ConfigError(f"{where} holds {total:,} values with all that its aliases repeat; at most {MOST_VALUES:,}")


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from (key, value)
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _mistakes(root: yaml.Node) -> Iterator[str]:
    """Yield a sentence, with its line, for every repeated key, key that is no text, and ambiguous scalar."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        waiting += reversed(list(_children(node)))
        line = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            yield from _wrong_keys(node)
        elif isinstance(node, yaml.ScalarNode):
            number = node.tag.endswith((":int", ":float"))
            if number and len(node.value) > MOST_DIGITS:
                yield f"line {line}: a number of {len(node.value):,} digits is too long; write a shorter number"
            elif number and node.style is None and _OCTAL.fullmatch(node.value):
                yield f"line {line}: {node.value:.60} may be read as octal; write it without its first 0, or in quotes"
            if any("\ud800" <= letter <= "\udfff" for letter in node.value):
                yield f"line {line}: a text holds half of a character (a surrogate); write the whole character"


def _wrong_keys(node: yaml.MappingNode) -> Iterator[str]:
    first: dict[Hashable, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag.endswith(":merge"):
            continue
        if not isinstance(key, yaml.ScalarNode) or not key.tag.endswith(":str"):
            shown = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            yield f"line {line}: the key {shown:.60} is no text; put it in quotes, or correct it"
        elif key.value in first:
            yield f"line {line}: the key {short(key.value)} is already in line {first[key.value]}; keep one of them"
        else:
            first[key.value] = line


def _line_of(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" in line {mark.line + 1}" if mark else ""


def _problem(error: yaml.YAMLError) -> str:
    said = " ".join(str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).split())
    return "it is indented with a tab; use spaces" if r"'\t'" in said else said
