"""YAML as a tree that knows its lines. Words stay words: `NO` is Norway here, not false.

Nothing of YAML that could run code or grow without bound is followed: no tags, a limited depth, aliases that share.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import yaml

from skerry.fleet.file.model import Mistake

DEEPEST: Final = 12
MERGE: Final = "<<"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is there: twenty times as fast."""


@dataclass(slots=True)
class Word:
    """A scalar as it is written; `quoted` ones are never null."""

    text: str
    line: int
    quoted: bool = False

    @property
    def empty(self) -> bool:
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(slots=True)
class List:
    """A sequence."""

    line: int
    items: list["Tree"] = field(default_factory=list)


@dataclass(slots=True)
class Map:
    """A mapping whose keys are words."""

    line: int
    items: dict[str, "Tree"] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)


Tree: TypeAlias = Word | List | Map


class BadYaml(Exception):
    """What cannot be read at all, or not on from here."""

    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.message)
        self.mistake = mistake


def read(text: str, mistakes: list[Mistake]) -> Tree | None:
    """The first document of the text; None where it is empty. Duplicate keys are noted and reading goes on.

    Raises BadYaml.
    """
    try:
        return _Builder(mistakes).build(yaml.parse(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.context, error.problem) if part)
        line = min(mark.line, text.rstrip().count("\n")) + 1 if mark else 1  # the end is where the text ends
        raise BadYaml(Mistake(line, "", "not_yaml", words or "this is not YAML")) from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1 if isinstance(error.position, int) else 1
        raise BadYaml(Mistake(line, "", "not_yaml", f"a character that YAML does not allow: {error.reason}")) from error


class _Builder:
    """Turns events into a tree, without recursion."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self._mistakes = mistakes
        self._open: list[tuple[List | Map, str | None]] = []
        """What is being read, with its anchor."""
        self._keys: list[Word | None] = []
        self._anchors: dict[str, Tree] = {}
        self._root: Tree | None = None

    def build(self, events: Iterator[Any]) -> Tree | None:
        documents = 0
        for event in events:
            line = event.start_mark.line + 1
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _bad(line, "several_documents", "a fleet file is one document: there is a second one here")
            elif isinstance(event, yaml.ScalarEvent):
                _refuse_tag(event, line)
                word = Word(event.value, line, quoted=bool(event.style))
                self._anchor(event.anchor, word)
                self._put(word)
            elif isinstance(event, yaml.AliasEvent):
                self._put(self._aliased(event.anchor, line))
            elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                _refuse_tag(event, line)
                self._enter(List(line) if isinstance(event, yaml.SequenceStartEvent) else Map(line), event.anchor)
            elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                self._leave()
        return self._root

    def _enter(self, tree: List | Map, anchor: str | None) -> None:
        if len(self._open) >= DEEPEST:
            raise _bad(tree.line, "too_deep", f"this is nested more than {DEEPEST} deep")
        self._open.append((tree, anchor))
        self._keys.append(None)

    def _leave(self) -> None:
        tree, anchor = self._open.pop()
        self._keys.pop()
        self._anchor(anchor, tree)
        self._put(tree)

    def _anchor(self, anchor: str | None, tree: Tree) -> None:
        if anchor is not None:
            self._anchors[anchor] = tree

    def _aliased(self, anchor: str | None, line: int) -> Tree:
        if any(anchor == name for _, name in self._open):
            raise _bad(line, "cycle", f"*{anchor} stands inside of &{anchor}: it would contain itself")
        if anchor is None or anchor not in self._anchors:
            raise _bad(line, "unknown_anchor", f"there is no &{anchor} before this")
        return self._anchors[anchor]

    def _put(self, tree: Tree) -> None:
        if not self._open:
            self._root = tree
            return
        parent, _ = self._open[-1]
        if isinstance(parent, List):
            parent.items.append(tree)
            return
        key = self._keys[-1]
        if key is None:
            if not isinstance(tree, Word):
                raise _bad(tree.line, "bad_key", "a key is a word")
            self._keys[-1] = tree
            return
        self._keys[-1] = None
        self._set(parent, key, tree)

    def _set(self, parent: Map, key: Word, tree: Tree) -> None:
        if key.text == MERGE and isinstance(tree, Map):
            for name, value in tree.items.items():
                parent.items.setdefault(name, value)
            return
        if key.text in parent.lines:
            first = parent.lines[key.text]
            self._mistakes.append(
                Mistake(key.line, key.text, "duplicate_key", f"{key.text} is given twice, first on line {first}")
            )
            return
        parent.items[key.text] = tree
        parent.lines[key.text] = key.line


def _refuse_tag(event: Any, line: int) -> None:
    if event.tag is not None and event.tag != "!":
        raise _bad(line, "tag", f"the tag {event.tag} has no place in a fleet file")


def _bad(line: int, code: str, message: str) -> BadYaml:
    return BadYaml(Mistake(line, "", code, message))
