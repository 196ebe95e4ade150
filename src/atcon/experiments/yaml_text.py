"""YAML that a user wrote: plain values, every key once, and no more of them than are written."""

from collections.abc import Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from atcon.errors import InputError
from atcon.plain_text import is_unicode, printable

LARGEST = 20_000
"""Values of a text, each alias counted as what it stands for: nine lines can hold a billion."""
_TAGS = frozenset({"str", "int", "float", "bool", "null", "seq", "map", "merge"})
_PREFIX = "tag:yaml.org,2002:"
_DIGITS = 40


def yaml_value(text: str, source: str) -> Any:
    """Read numbers, words, lists and mappings of them.

    Raises:
        InputError: It is no YAML, a key is given twice, a tag asks for something else (a date,
            a Python object), or aliases make it larger than `LARGEST` values.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node, {}, source)
        for one in _all_nodes(node, set()):
            _check(one, source)
        return loader.construct_document(node)
    except InputError:
        raise
    except RecursionError:
        raise InputError(f"{source}: nested too deeply to be read") from None
    except Exception as error:  # constructors of scalars raise anything, such as IndexError
        said = "\n".join(map(printable, str(error).splitlines()))
        raise InputError(f"{source}: not valid YAML ({said})") from error


def yaml_mapping(text: str, source: str, what: str) -> dict[str, Any]:
    """Read a mapping.

    Args:
        text: The YAML.
        source: Where it comes from, for errors.
        what: What it is meant to be, for errors.

    Raises:
        InputError: As for `yaml_value`, or it is no mapping.
    """
    content = yaml_value(text, source)
    if not isinstance(content, dict):
        raise InputError(f"{source}: {what}")
    return content


def _check_size(node: Node, sizes: dict[int, int], source: str) -> int:
    """Count the values below a node, each alias as what it stands for."""
    if id(node) not in sizes:
        sizes[id(node)] = LARGEST + 1  # of a node that holds itself
        sizes[id(node)] = 1 + sum(_check_size(one, sizes, source) for one in _below(node))
    if sizes[id(node)] > LARGEST:
        raise InputError(
            f"{source}{_place(node)}: more than {LARGEST} values, or an alias inside of what it "
            "stands for; write out what you need"
        )
    return sizes[id(node)]


def _all_nodes(node: Node, seen: set[int]) -> Iterator[Node]:
    if id(node) not in seen:
        seen.add(id(node))
        yield node
        for one in _below(node):
            yield from _all_nodes(one, seen)


def _below(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [one for pair in node.value for one in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _check(node: Node, source: str) -> None:
    kind = str(node.tag).removeprefix(_PREFIX)
    where = f"{source}{_place(node)}"
    if kind == "timestamp":
        raise InputError(f"{where}: {node.value} is read as a date; put it in quotes")
    if kind not in _TAGS:
        raise InputError(f"{where}: the tag {kind!r} is not allowed; write a plain value")
    if isinstance(node, ScalarNode):
        _check_scalar(node, kind, where)
    if isinstance(node, MappingNode):
        _check_keys(node, source)


def _check_scalar(node: ScalarNode, kind: str, where: str) -> None:
    if kind == "int" and len(node.value) > _DIGITS:
        raise InputError(f"{where}: a number of {len(node.value)} digits; give a smaller one")
    if not is_unicode(node.value):
        raise InputError(f"{where}: {node.value!r} is not Unicode text")


def _check_keys(node: MappingNode, source: str) -> None:
    """Refuse a key that stands twice: YAML's readers keep the last one in silence."""
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, ScalarNode):
            raise InputError(f"{source}{_place(key)}: a key is a word, not a list or a mapping")
        if (key.tag, key.value) in seen:
            raise InputError(f"{source}{_place(key)}: the key {key.value!r} is given twice")
        seen.add((key.tag, key.value))


def _place(node: Node) -> str:
    return f", line {node.start_mark.line + 1}"
