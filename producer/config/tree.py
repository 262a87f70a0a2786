"""YAML text to a tree that knows its lines.

1. Only plain YAML: mappings, lists and scalars. Anchors, aliases, tags, second documents, keys that are not text and
   nesting beyond MAX_DEPTH are refused, because a configuration needs none of them and bombs are made of them.
2. A duplicate key is an error that names both lines; other readers would silently keep the last one.
3. A scalar keeps its text. `0.10` stays four characters until something that knows it is money reads it, and `10:30`
   never becomes the number 630.
4. Whatever the text, the outcome is a tree or a ConfigError with a line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from producer.errors import ConfigError

MAX_DEPTH = 20
MAX_SHOWN = 60

File = Path | str


@dataclass(frozen=True)
class Scalar:
    """One value as it was written. ``plain`` is false where it was quoted, so that "5" stays text."""

    text: str
    plain: bool
    line: int | None = None

    @classmethod
    def of(cls, value: object) -> Scalar:
        """The scalar that YAML would write for a Python value."""
        if isinstance(value, Scalar):
            return value
        if value is None or isinstance(value, bool):
            return cls({None: "null", True: "true", False: "false"}[value], True)
        return cls(str(value), not isinstance(value, str))

    @property
    def is_null(self) -> bool:
        """Whether nothing, `~` or `null` was written."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


class Mapping(dict[str, Any]):
    """A mapping; ``lines`` says where each key stands."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line, self.lines = line, dict[str, int]()


class Sequence(list[Any]):
    """A list; ``lines`` says where each item begins."""

    def __init__(self, line: int) -> None:
        super().__init__()
        self.line, self.lines = line, list[int]()


Node = Scalar | Mapping | Sequence


def shown(value: object) -> str:
    """A value as an error message may print it: one line, no control or direction characters, not endless."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence):
        return "a list"
    text = value.text if isinstance(value, Scalar) else str(value)
    text = text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
    quoted = isinstance(value, Scalar) and not value.plain
    return repr(text) if quoted or not text else printable(text)


def printable(text: object) -> str:
    """Text of any length on one line, without characters that steer a terminal."""
    return str(text) if str(text).isprintable() else repr(str(text))


def join(path: tuple[str | int, ...]) -> str:
    """A place in the tree as people write it: budget.agents.code.allowed_tools[2]."""
    key = ""
    for part in path:
        key += f"[{part + 1}]" if isinstance(part, int) else f".{shown(part)}" if key else shown(part)
    return key


def line_of(root: Node, path: tuple[str | int, ...]) -> int:
    """The line of the key or item at ``path``; of the nearest one above it where it does not exist."""
    line, node = root.line or 1, root
    for part in path:
        if isinstance(node, Mapping) and part in node:
            line, node = node.lines[str(part)], node[str(part)]
        elif isinstance(node, Sequence) and isinstance(part, int) and part < len(node):
            line, node = node.lines[part], node[part]
        else:
            break
    return line


def parse(text: str, file: File) -> Mapping:
    """The tree of a producer.yaml. Raises ConfigError for what is not a mapping of plain YAML."""
    root = _Builder(file).build(_events(text, file))
    if root is None or (isinstance(root, Scalar) and root.is_null):
        raise ConfigError("the file is empty: write one with `producerctl init`", file=file, line=1)
    if not isinstance(root, Mapping):
        what = "a list" if isinstance(root, Sequence) else f"the text {shown(root)}"
        raise ConfigError(f"the file is {what}: it must be a mapping of keys to values", file=file, line=root.line)
    return root


def _events(text: str, file: File) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        rows = text.splitlines()
        mark = error.problem_mark or error.context_mark
        if mark and mark.line >= len(rows) and error.context_mark:
            mark = error.context_mark  # something never ends: where it began is the better place to look
        line = (mark.line if mark else 0) + 1
        near = f", near {shown(rows[line - 1].strip())}" if line <= len(rows) and rows[line - 1].strip() else ""
        problem = printable(error.problem or error.context)
        if (error.context or "").endswith("an alias"):
            problem = "a value that begins with * has to be quoted"
        raise ConfigError(f"malformed YAML: {problem}{near}", file=file, line=line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"malformed YAML: the character U+{int(error.character):04X} is not allowed"
        raise ConfigError(problem, file=file, line=line) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML lets chr() and int() raise where an escape or a directive names an impossible number.
        raise ConfigError(f"malformed YAML: {shown(str(error))}", file=file) from None


@dataclass
class _Frame:
    """A collection that is being filled, where it lies, and the key that waits for its value."""

    node: Mapping | Sequence
    path: tuple[str | int, ...]
    key: Scalar | None = None

    def here(self) -> tuple[str | int, ...]:
        if isinstance(self.node, Sequence):
            return (*self.path, len(self.node))
        return (*self.path, self.key.text) if self.key else self.path


class _Builder:
    """Events in, tree out, with a stack of its own: depth is bounded and Python's recursion is not used."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.root: Node | None = None
        self.stack: list[_Frame] = []

    def build(self, events: Iterator[yaml.Event]) -> Node | None:
        for event in events:
            line = event.start_mark.line + 1 if event.start_mark else 1
            if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
                self.fail(line, "a second document (---) begins here: one is allowed")
            elif isinstance(event, yaml.NodeEvent):
                self.refuse_extras(event, line)
                if isinstance(event, yaml.ScalarEvent):
                    self.add(Scalar(self.clean(event.value, line), event.implicit[0], line), line)
                else:
                    self.open(Mapping(line) if isinstance(event, yaml.MappingStartEvent) else Sequence(line), line)
            elif isinstance(event, yaml.CollectionEndEvent):
                self.stack.pop()
        return self.root

    def open(self, node: Mapping | Sequence, line: int) -> None:
        if len(self.stack) >= MAX_DEPTH:
            self.fail(line, f"nested deeper than {MAX_DEPTH} levels")
        path = self.path()
        self.add(node, line)
        self.stack.append(_Frame(node, path))

    def add(self, node: Node, line: int) -> None:
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        if isinstance(frame.node, Sequence):
            frame.node.append(node)
            frame.node.lines.append(line)
        elif frame.key is None:
            frame.key = self.new_key(frame.node, node, line)
        else:
            frame.node[frame.key.text] = node
            frame.node.lines[frame.key.text] = frame.key.line or line
            frame.key = None

    def new_key(self, parent: Mapping, node: Node, line: int) -> Scalar:
        if not isinstance(node, Scalar):
            self.fail(line, f"{shown(node)} stands where a key is expected: keys are words")
        if node.text in parent:
            problem = f"duplicate key: it stands on line {parent.lines[node.text]} already; keep one of the two"
            self.fail(line, problem, node.text)
        return node

    def clean(self, text: str, line: int) -> str:
        if any("\ud800" <= char <= "\udfff" for char in text):
            self.fail(line, "half of a surrogate pair is not a character")
        return text

    def refuse_extras(self, event: yaml.NodeEvent, line: int) -> None:
        if event.anchor is not None:
            sign = "alias *" if isinstance(event, yaml.AliasEvent) else "anchor &"
            self.fail(line, f"the {sign}{shown(event.anchor)} is not allowed: write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            self.fail(line, f"the tag {shown(str(tag))} is not allowed: write the value without it")

    def path(self) -> tuple[str | int, ...]:
        return self.stack[-1].here() if self.stack else ()

    def fail(self, line: int, problem: str, *key: str) -> NoReturn:
        raise ConfigError(problem, file=self.file, line=line, key=join((*self.path(), *key)) or None)
