"""Which layers a peft config names, by peft's own rules, and the patterns of a file that may be hostile."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lora_lite.config import NO_PATTERN
from lora_lite.errors import CheckpointError
from lora_lite.peft_format.stepping import FLAGS, ONE, Stepping, UnboundedError

TOKEN = re.compile(rf"{ONE}|.", re.DOTALL)
# Ways in which re may try one name, at most, of a pattern out of a file: it may take years. A repeat counts
# as 64 ways, about a name's length.
MOST_WAYS, REPEAT, LONGEST_PATTERN = 10**6, 64, 50_000


def compiled(pattern: object, what: str) -> re.Pattern[str] | Stepping:
    """A file's pattern, to ask whether it matches. Raises CheckpointError where it is none, or may take too
    long on a name.
    """
    if not isinstance(pattern, str):
        raise CheckpointError(f"{what}: found {pattern!r}, wanted a regular expression.")
    if len(pattern) > LONGEST_PATTERN:
        raise _too_long(pattern, what)
    quick = _ways(TOKEN.findall(pattern)) <= MOST_WAYS
    try:
        # Under flags classes may take seconds to compile.
        found = re.compile(pattern if quick else FLAGS.sub("", pattern, count=1))
    except NO_PATTERN as error:
        raise CheckpointError(f"{what}: {pattern[:60]!r} is no regular expression: {error}.") from error
    try:
        return found if quick else Stepping(pattern)
    except UnboundedError as error:
        raise _too_long(pattern, what) from error


def _quick(pattern: str, what: str) -> re.Pattern[str]:
    """One that tells what its groups matched."""
    found = compiled(pattern, what)
    if isinstance(found, Stepping):
        raise _too_long(pattern, what)
    return found


def _too_long(pattern: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"{what}: {pattern[:60]!r} may take too long to match: repeats of repeats, what looks back at what"
        " was matched, or a pattern of many parts. List the layers' names in its place."
    )


def _ways(tokens: list[str]) -> float:
    """A bound of the ways in which a pattern could match one name; inf where a group is repeated."""
    ways, open_groups = 1.0, [1]
    for i, token in enumerate(tokens):
        before = tokens[i - 1] if i else ""
        if token == "(":
            open_groups.append(1)
        elif token == ")":
            ways *= open_groups.pop() if len(open_groups) > 1 else 1
        elif token == "|":
            open_groups[-1] += 1
        elif token in "*+{" or (token == "?" and before != "("):
            if before == ")" and token != "?":
                return math.inf
            ways *= 2 if token == "?" else REPEAT
        elif before == "?" and i > 1 and tokens[i - 2] == "(" and token in "aiLmsux-":
            # Flags: classes under (?i) take seconds to compile.
            return math.inf
    return ways * math.prod(open_groups)


def exactly(name: str) -> str:
    """A pattern of rank_pattern and the like for this very layer: without the ^ any end of a name counts."""
    return f"^{re.escape(name)}"


def only(names: Iterable[str]) -> str:
    """A pattern that these whole names match, and no other."""
    return f"(?:{'|'.join(map(re.escape, names))})"


def whole(pattern: str, what: str) -> Callable[[str], bool]:
    """Whether it matches a whole name."""
    match = compiled(pattern, what).fullmatch
    return lambda name: bool(match(name))


class Valued:
    """rank_pattern and the like: peft takes the first that matches a whole name, or its end after a dot."""

    def __init__(self, held: object, what: str, layers: int) -> None:
        if not isinstance(held := held or {}, dict):
            raise CheckpointError(f"{what}: found {held!r}, wanted an object of patterns.")
        if len(held) > 64 + 2 * layers:
            raise CheckpointError(f"{what}: found {len(held)} patterns for {layers} layers, wanted fewer.")
        self._held: Mapping[str, Any] = held
        self._patterns = [
            (compiled(rf"(?:.*\.)?(?:{key})$", what), compiled(key, what), value)
            for key, value in held.items()
        ]

    def get(self, name: str, default: Any) -> Any:
        for whole, _, value in self._patterns:
            if whole.match(name):
                return value
        return self._held.get(name, default)


def _named(held: object, what: str) -> Callable[[str], bool]:
    """Whether target_modules or exclude_modules has a layer: a list of names or ends of names after a dot,
    or one regular expression for the whole name.
    """
    if isinstance(held, str):
        return whole(held, what)
    if not isinstance(held, list) or not all(isinstance(entry, str) for entry in held):
        raise CheckpointError(f"{what}: found {held!r}, wanted names or one regular expression.")
    entries = set(held)
    return lambda name: not entries.isdisjoint(ends(name))


def ends(name: str) -> list[str]:
    """A name, and its ends after a dot."""
    parts = name.split(".")
    return [".".join(parts[i:]) for i in range(len(parts))]


class Selection:
    """target_modules, exclude_modules, layers_to_transform and layers_pattern of a peft config."""

    def __init__(self, settings: Mapping[str, Any], what: str) -> None:
        self.entries: list[str] = []
        targets = settings.get("target_modules")
        self.all_linear = isinstance(targets, str) and targets.lower() == "all-linear"
        if isinstance(targets, list):
            self.entries = targets
        self._targets = _named([] if self.all_linear else targets, f"{what}: target_modules")
        self._excluded = _named(settings.get("exclude_modules") or [], f"{what}: exclude_modules")
        self._layers = _indices(settings.get("layers_to_transform"), f"{what}: layers_to_transform")
        # A name in full counts whatever its index.
        self._full = set(self.entries)
        held = settings.get("layers_pattern") or [r"[^.]*"]
        held = [held] if isinstance(held, str) else held
        if not isinstance(held, list):
            raise CheckpointError(f"{what}: layers_pattern: found {held!r}, wanted names.")
        start = "(?:^|.*?[.])" if settings.get("layers_pattern") else ".*?[.]"
        self._indexed = [
            _quick(rf"{start}{pattern}[.](?P<idx>\d+)[.]", f"{what}: layers_pattern") for pattern in held
        ]

    def __call__(self, name: str) -> bool:
        """Whether the config names this layer. With "all-linear" it names none by name."""
        if self._excluded(name) or not self._targets(name):
            return False
        if self._layers is None or name in self._full:
            return True
        found = next(filter(None, (pattern.match(name) for pattern in self._indexed)), None)
        # Of alternatives the first may end before the index.
        return found is not None and found["idx"] is not None and int(found["idx"]) in self._layers

    def excludes(self, name: str) -> bool:
        return self._excluded(name)


def _indices(held: object, what: str) -> set[int] | None:
    if held is None or held == []:
        return None
    indices = held if isinstance(held, list) else [held]
    if not all(type(index) is int for index in indices):
        raise CheckpointError(f"{what}: found {held!r}, wanted whole numbers.")
    return set(indices)
