"""Patterns on which `re` might try too many ways: matched from all positions at once, in bounded time.

A set of positions in a name is the bits of a whole number; each part of a pattern makes of the positions
where it begins those where it may end. Nothing is tried twice.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

# One character of a pattern that is more than one in its text: an escape, or a class.
ONE = r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]"
TOKEN = re.compile(rf"{ONE}|\(\?(?:P<\w+>|<?[=!]|:)|.", re.DOTALL)
FLAGS, COUNTS = re.compile(r"\(\?([aimsu]+)\)"), re.compile(r"(\d*)(?:(,)(\d*))?")
# Between two characters, and what an escape may be that is one token long and looks back at nothing.
BETWEEN, ESCAPED = {"^", "$", r"\b", r"\B", r"\A", r"\Z"}, re.compile(r"\\[bBAZdDsSwWaftnrv]|\\[^a-zA-Z0-9]")
# Steps that a pattern may take on a name, a part once from a set of positions each, where a repeat takes as
# many as the longest of names has characters; and the depth of groups.
MOST_STEPS, REPEAT, DEEPEST = 10**5, 256, 40


class UnboundedError(Exception):
    """A pattern that takes too many steps, or that these do not know."""


class Name:
    """A name, and the positions in it at which each token fits. known: which characters a token takes."""

    def __init__(self, text: str, flags: str, known: dict[tuple[str, str], bool]) -> None:
        self.end = 1 << len(text)
        self._text, self._flags, self._known = text, flags, known
        self._places: dict[str, int] = {}
        for i, character in enumerate(text):
            self._places[character] = self._places.get(character, 0) | 1 << i
        self._fitting: dict[str, int] = {}

    def fitting(self, token: str) -> int:
        if token not in self._fitting:
            self._fitting[token] = self._between(token) if token in BETWEEN else self._taken(token)
        return self._fitting[token]

    def _between(self, token: str) -> int:
        match = _matcher(token, self._flags)
        return sum(1 << i for i in range(len(self._text) + 1) if match(self._text, i))

    def _taken(self, token: str) -> int:
        positions = 0
        for character, places in self._places.items():
            if (key := (token, character)) not in self._known:
                self._known[key] = _takes(token, character, self._flags)
            positions |= places * self._known[key]
        return positions


def _takes(token: str, character: str, flags: str) -> bool:
    match = _matcher(token, flags)
    # (?i) on a class takes re seconds to compile. What a class excludes it excludes in either case.
    cases = {character, character.lower(), character.upper()} if "i" in flags else {character}
    taken = [match(case) is not None for case in cases if len(case) == 1]
    return all(taken) if token.startswith("[^") else any(taken)


def _matcher(token: str, flags: str) -> Callable[..., object]:
    own = flags.replace("i", "")
    return re.compile(f"(?{own}){token}" if own else token).match


class Part(NamedTuple):
    """A part of a pattern: where it may end, given where it begins; what that costs; whether it repeats."""

    ends: Callable[[Name, int], int]
    steps: int = 1
    repeats: bool = False


def _leaf(token: str, name: Name, begins: int) -> int:
    fitting = begins & name.fitting(token)
    return fitting if token in BETWEEN else fitting << 1


def _sequence(parts: list[Part], name: Name, positions: int) -> int:
    for part in parts:
        if not positions:
            break
        positions = part.ends(name, positions)
    return positions


def _either(parts: list[Part], name: Name, begins: int) -> int:
    ends = 0
    for part in parts:
        ends |= part.ends(name, begins)
    return ends


def _repeated(part: Part, least: int, most: float, name: Name, begins: int) -> int:
    fresh, count = begins, 0
    while count < least and fresh:
        fresh, count = part.ends(name, fresh), count + 1
    ends = fresh
    while fresh and count < most:
        fresh, count = part.ends(name, fresh) & ~ends, count + 1
        ends |= fresh
    return ends


def _looked(part: Part, behind: bool, wanted: bool, name: Name, begins: int) -> int:
    """The positions that something follows, or goes before, or does not."""
    found = 0
    for place in _bits(2 * name.end - 1 if behind else begins):
        ends = part.ends(name, place)
        found |= ends if behind else place * bool(ends)
    return begins & (found if wanted else ~found)


def _bits(positions: int) -> Iterator[int]:
    while positions:
        lowest = positions & -positions
        yield lowest
        positions ^= lowest


class Stepping:
    """A pattern that re has found to be one. Raises UnboundedError."""

    def __init__(self, pattern: str) -> None:
        flags = FLAGS.match(pattern)
        self._flags, self._known = flags[1] if flags else "", dict[tuple[str, str], bool]()
        self._tokens = TOKEN.findall(pattern, flags.end() if flags else 0)[::-1]
        self._whole = self._alternatives(0)
        # A bracket that closes nothing, or too much to do.
        if self._tokens or self._whole.steps > MOST_STEPS:
            raise UnboundedError

    def match(self, text: str) -> bool:
        """Whether it matches the name, or what that begins with."""
        return self._whole.ends(Name(text, self._flags, self._known), 1) != 0

    def fullmatch(self, text: str) -> bool:
        name = Name(text, self._flags, self._known)
        return self._whole.ends(name, 1) & name.end != 0

    def _alternatives(self, depth: int) -> Part:
        if depth > DEEPEST:
            raise UnboundedError
        found = [self._one(depth)]
        while self._tokens and self._tokens[-1] == "|":
            self._tokens.pop()
            found.append(self._one(depth))
        return found[0] if len(found) == 1 else _joined(_either, found)

    def _one(self, depth: int) -> Part:
        parts = []
        while self._tokens and self._tokens[-1] not in ("|", ")"):
            parts.append(self._counted(self._atom(self._tokens.pop(), depth)))
        return _joined(_sequence, parts)

    def _atom(self, token: str, depth: int) -> Part:
        if token[0] != "(":
            if token in ("*", "+", "?") or (token[0] == "\\" and not ESCAPED.fullmatch(token)):
                raise UnboundedError
            literal = re.escape(token) if token in "{}]" else token
            return Part(partial(_leaf, literal))
        # Of other kinds of groups the ? comes next.
        inner = self._alternatives(depth + 1)
        if not self._tokens:
            raise UnboundedError
        self._tokens.pop()
        if token[-1] not in "=!":
            return inner
        looked = partial(_looked, inner, "<" in token, token[-1] == "=")
        return Part(looked, REPEAT * inner.steps, repeats=True)

    def _counted(self, part: Part) -> Part:
        """The part, with what comes after it of *, +, ? and counts."""
        least, most = self._counts()
        if (least, most) == (1, 1):
            return part
        if self._tokens and self._tokens[-1] == "?":
            self._tokens.pop()
        elif self._tokens and self._tokens[-1] in ("+", "*"):
            raise UnboundedError
        ends = partial(_repeated, part, least, most)
        if (least, most) == (0, 1) or least == most:
            return Part(ends, max(1, least) * part.steps, part.repeats)
        # Repeats of repeats keep others who read the file busy for years.
        if part.repeats or least > REPEAT:
            raise UnboundedError
        return Part(ends, REPEAT * part.steps, repeats=True)

    def _counts(self) -> tuple[int, float]:
        token = self._tokens[-1] if self._tokens else ""
        if token in ("*", "+", "?"):
            self._tokens.pop()
            return int(token == "+"), 1 if token == "?" else float("inf")
        if token != "{" or "}" not in self._tokens:
            return 1, 1
        close = len(self._tokens) - 1 - self._tokens[::-1].index("}")
        found = COUNTS.fullmatch("".join(self._tokens[close + 1 : -1][::-1]))
        if found is None or not found[0] or len(found[0]) > 20:
            return 1, 1
        del self._tokens[close:]
        least = int(found[1] or 0)
        return least, (float(found[3] or "inf") if found[2] else least)


def _joined(how: Callable[[list[Part], Name, int], int], parts: list[Part]) -> Part:
    steps = sum(part.steps for part in parts)
    return Part(partial(how, parts), max(1, steps), any(part.repeats for part in parts))
