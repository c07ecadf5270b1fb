"""A regular expression as a grammar for llama.cpp (GBNF): the whole answer must match it.

Taken: literals, `.`, classes with ranges, `\\d \\w \\s` and their opposites, `\\n \\t \\r \\f \\v \\xHH \\uHHHH`,
groups (plain, `?:`, named), `|`, `* + ? {m} {m,} {m,n}` (lazy ones too: they match the same answers), `^` in front and
`$` at the end. `\\d`, `\\w` and `\\s` mean ASCII, and `.` any character but a line feed. Everything else (look-around,
references, word borders, flags, possessive repeats, `\\p{…}`) is refused by name, never guessed at.
"""

from dataclasses import dataclass
from typing import Final

MAX_PATTERN: Final = 4096
MAX_DEPTH: Final = 50
MAX_REPEATS: Final = 1000
"""The largest number in braces."""
MAX_SIZE: Final = 20_000
"""Elements that a grammar may have once its repeats are written out, as llama.cpp does."""

_SETS: Final = {"d": "0-9", "w": "0-9A-Z_a-z", "s": "\\t-\\r\\x20"}
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_HEX: Final = {"x": 2, "u": 4}


class Unsupported(ValueError):
    """The message names what cannot be taken, and where it stands."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of the grammar. `size`: elements it has, repeats written out."""

    text: str
    size: int


def grammar_of(pattern: str) -> str:
    """The rule `root`. Raises Unsupported."""
    if len(pattern) > MAX_PATTERN:
        raise Unsupported(f"it is longer than {MAX_PATTERN} characters")
    reader = _Reader(pattern)
    piece = reader.alternatives(0)
    if not reader.over:
        raise Unsupported(f"there is an unmatched ')' at {reader.at}")
    return f"root ::= {piece.text}"


def literal(text: str) -> str:
    """A GBNF string that matches exactly `text`."""
    return '"' + "".join(_safe(character) for character in text) + '"'


class _Reader:
    """Recursive descent over the pattern."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self.at = 0

    @property
    def over(self) -> bool:
        return self.at >= len(self._pattern)

    def alternatives(self, depth: int) -> _Piece:
        if depth > MAX_DEPTH:
            raise Unsupported(f"its groups are nested more than {MAX_DEPTH} deep")
        branches = [self._sequence(depth)]
        while self._took("|"):
            branches.append(self._sequence(depth))
        if len(branches) == 1:
            return branches[0]
        return _sized(" | ".join(branch.text for branch in branches), sum(branch.size for branch in branches) + 1)

    def _sequence(self, depth: int) -> _Piece:
        pieces: list[_Piece] = []
        self._anchor_in_front(depth)
        while not self.over and self._peek() not in "|)":
            if self._peek() == "$":
                self._anchor_at_end(depth)
                break
            pieces.append(self._repeated(self._atom(depth)))
        if not pieces:
            return _Piece('""', 1)
        return _sized(" ".join(piece.text for piece in pieces), sum(piece.size for piece in pieces))

    def _anchor_in_front(self, depth: int) -> None:
        """Every branch is the whole answer, so an anchor says what holds anyway; inside a group it might not."""
        if not self.over and self._peek() == "^":
            if depth:
                raise Unsupported(f"'^' inside a group at {self.at}")
            self.at += 1

    def _anchor_at_end(self, depth: int) -> None:
        begin = self.at
        self.at += 1
        if depth or not (self.over or self._peek() == "|"):
            raise Unsupported(f"'$' before the end at {begin}")

    def _atom(self, depth: int) -> _Piece:
        begin = self.at
        character = self._take()
        if character == "(":
            return self._group(depth, begin)
        if character == "[":
            return _Piece(self._class(begin), 1)
        if character == "\\":
            return _Piece(self._escape(begin), 1)
        if character == ".":
            return _Piece("[^\\n]", 1)
        if character in "*+?{":
            raise Unsupported(f"nothing to repeat before {character!r} at {begin}")
        if character == "^":
            raise Unsupported(f"'^' after the beginning at {begin}")
        return _Piece(literal(character), 1)

    def _group(self, depth: int, begin: int) -> _Piece:
        if self._took("?"):
            self._group_kind(begin)
        inner = self.alternatives(depth + 1)
        if not self._took(")"):
            raise Unsupported(f"the group at {begin} is not closed")
        return _Piece(f"({inner.text})", inner.size)

    def _group_kind(self, begin: int) -> None:
        if self._took(":"):
            return
        if self._took("P<") or (
            self._ahead("<") and not self._ahead("<=") and not self._ahead("<!") and self._took("<")
        ):
            end = self._pattern.find(">", self.at)
            if end <= self.at or not self._pattern[self.at : end].isidentifier():
                raise Unsupported(f"the group at {begin} has no sound name")
            self.at = end + 1
            return
        kinds = {"=": "look-ahead", "!": "look-ahead", "<": "look-behind", ">": "an atomic group", "P": "a reference"}
        kind = kinds.get(self._peek() if not self.over else "", "flags")
        raise Unsupported(f"{kind} at {begin}")

    def _repeated(self, piece: _Piece) -> _Piece:
        if self.over or self._peek() not in "*+?{":
            return piece
        begin = self.at
        mark = self._take()
        if mark == "{":
            low, high = self._bounds(begin)
            mark = f"{{{low}}}" if high == low else f"{{{low},{'' if high is None else high}}}"
            size = piece.size * max(low, high or 0, 1)
        else:
            size = piece.size + 1
        self._took("?")  # lazy: as a whole it matches the same
        if not self.over and self._peek() in "+*{":
            raise Unsupported(f"two repeats in a row at {self.at}")
        grouped = piece.text if piece.text[0] in "([" or _single(piece.text) else f"({piece.text})"
        return _sized(grouped + mark, size)

    def _bounds(self, begin: int) -> tuple[int, int | None]:
        end = self._pattern.find("}", self.at)
        low, comma, high = self._pattern[self.at : max(end, self.at)].partition(",")
        if end < 0 or not _number(low) or (high and not _number(high)):
            raise Unsupported(f"the braces at {begin} are no repeat; write \\{{ for the character")
        self.at = end + 1
        least, most = int(low), int(low) if not comma else int(high) if high else None
        if max(least, most or 0) > MAX_REPEATS:
            raise Unsupported(f"more than {MAX_REPEATS} repeats at {begin}")
        if most is not None and most < least:
            raise Unsupported(f"the repeat at {begin} ends before it begins")
        return least, most

    def _class(self, begin: int) -> str:
        negated = self._took("^")
        parts: list[str] = []
        first = True
        while first or self.over or self._peek() != "]":
            if self.over:
                raise Unsupported(f"the class at {begin} is not closed")
            parts.append(self._class_part(begin))
            first = False
        self.at += 1
        return f"[{'^' if negated else ''}{''.join(parts)}]"

    def _class_part(self, begin: int) -> str:
        low = self._class_character(begin)
        if len(low) > 1 or not self._ahead("-") or self._ahead("-]"):
            return low if len(low) > 1 else _safe(low)
        self.at += 1
        high = self._class_character(begin)
        if len(high) > 1 or ord(high) < ord(low):
            raise Unsupported(f"the class at {begin} has a range that ends before it begins")
        return f"{_safe(low)}-{_safe(high)}"

    def _class_character(self, begin: int) -> str:
        """One character, or several that are already written as part of a class."""
        if self.over:
            raise Unsupported(f"the class at {begin} is not closed")
        character = self._take()
        if character == "[" and self._ahead(":"):
            raise Unsupported(f"a named class at {self.at - 1}")
        if character != "\\":
            return character
        at = self.at - 1
        if self.over:
            raise Unsupported("it ends with a backslash")
        if self._peek() in _SETS:
            return _SETS[self._take()]
        if self._peek() in "DWS":
            raise Unsupported(f"\\{self._peek()} in a class at {at}")
        if self._took("b"):
            return "\b"
        return self._escaped(at)

    def _escape(self, begin: int) -> str:
        if self.over:
            raise Unsupported("it ends with a backslash")
        kind = self._peek()
        if kind.lower() in _SETS:
            self.at += 1
            return f"[{'^' if kind.isupper() else ''}{_SETS[kind.lower()]}]"
        if kind in "bBAZz":
            raise Unsupported(f"\\{kind} at {begin}")
        return literal(self._escaped(begin))

    def _escaped(self, begin: int) -> str:
        """The character that stands after a backslash."""
        kind = self._take()
        if kind in _HEX:
            digits = self._pattern[self.at : self.at + _HEX[kind]]
            if len(digits) < _HEX[kind] or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
                raise Unsupported(f"\\{kind} without {_HEX[kind]} hexadecimal digits at {begin}")
            self.at += _HEX[kind]
            return chr(int(digits, 16))
        if kind in _ESCAPES and not (kind == "0" and not self.over and self._peek().isdigit()):
            return _ESCAPES[kind]
        if kind.isdigit():
            raise Unsupported(f"the reference \\{kind} at {begin}")
        if kind.isalpha():
            raise Unsupported(f"\\{kind} at {begin}")
        return kind

    def _peek(self) -> str:
        return self._pattern[self.at]

    def _take(self) -> str:
        character = self._pattern[self.at]
        self.at += 1
        return character

    def _ahead(self, text: str) -> bool:
        return self._pattern.startswith(text, self.at)

    def _took(self, text: str) -> bool:
        if not self._ahead(text):
            return False
        self.at += len(text)
        return True


def _sized(text: str, size: int) -> _Piece:
    if size > MAX_SIZE:
        raise Unsupported("its repeats, written out, are too many")
    return _Piece(text, size)


def _single(text: str) -> bool:
    """Whether it is one string: a repeat then applies to all of it."""
    return text[0] == '"' and text.count('"') == 2


def _number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


def _safe(character: str) -> str:
    """As GBNF takes it in strings and classes alike."""
    if character.isascii() and (character.isalnum() or character in " _,;:/%&=<>@#~!"):
        return character
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02X}"
    return f"\\u{number:04X}" if number < 0x10000 else f"\\U{number:08X}"
