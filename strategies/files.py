"""Recipes of damaged files: edits of a valid one, from flipped bits to headers that lie."""

import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load as tensors_of

from lora_lite.config import PATTERNS
from lora_lite.fingerprint import digest_of, digest_of_all
from lora_lite.reading import HEADER
from strategies.layers import BOOLEANS, AdaptedLayer, trained_layers

# ("flip", 93, 3): what is done, where (taken modulo what there is), and with what.
Edit = tuple[Any, ...]

_LIES = r"""
    null true 0 1 -1 2 99 3.5 "" [] {} [0] [-1] [[]] [""] {"":{}}
    1048576 4294967296 9223372036854775807 18446744073709551615 1000000000000000000000000000000
    1e308 1e999 -1e999 NaN Infinity
    [1099511627776,1099511627776] [0,4611686018427387904] [4,4] [8,4] [0,0] [16,8]
    "." ".." "../../x" "/etc/passwd" "0" "0.weight" "0.lora_lite" "__class__" "\u0000" "\ud800"
    "F64" "F16" "BF16" "I8" "I32" "BOOL" "F4" "F6_E2M3" "F8_E4M3" "C64"
    "float64" "int4" "lora" "hra" "ia3" "dora"
    ["(("] ["[[a]"] ["(a{65535}){65535}"] ["(a+)+$"] ["(?i)a"]
    {"dtype":"F32","shape":[0],"data_offsets":[0,0]}
"""
# JSON that no header holds at most places, simplest first: wrong types, sizes, numbers, names, dtypes,
# patterns.
LIES = tuple(_LIES.split())
DEEPEST, LONGEST, MOST, WIDEST = 5000, 5000, 300, 20_000
# Patterns that take long to compile, or longer than anybody lives to match.
BOMBS = (
    *("(a+)+$", "(a|aa)*b", "(?=(a+))\\1+$", "(a{1,999}){1,999}", "(" * 90 + ")" * 90, "(" * 500),
    *("(?i)" + "[\0-\uffff]" * 60, "|".join(map(str, range(500)))),
)


@dataclass(frozen=True)
class DamagedFile:
    """A saved adapter whose file was changed afterwards.

    edits   done one after the other; one that no longer applies is left out
    forged  the digest is made to fit, as an attacker would
    """

    case: AdaptedLayer
    edits: tuple[Edit, ...]
    forged: bool = False

    def damage(self, whole: bytes) -> bytes:
        """The bytes of the valid file, edited."""
        for edit in self.edits:
            whole = edited(whole, edit)
        return forged(whole) if self.forged else whole

    def lay(self, path: Path, whole: bytes) -> None:
        """Write them there, and the holes that follow: a size that takes no room."""
        path.write_bytes(self.damage(whole))
        if holes := sum(2 ** (edit[1] % 41) for edit in self.edits if edit[0] == "holes"):
            os.truncate(path, path.stat().st_size + holes)


def edited(whole: bytes, edit: Edit) -> bytes:
    """One edit of a file's bytes."""
    kind, at, *more = edit
    if kind == "holes":
        return whole
    if kind == "cut":
        return whole[: at % (len(whole) + 1)]
    if kind == "noise":
        return Random(at).randbytes(more[0])
    if kind == "length":
        return struct.pack("<Q", at % 2**64) + whole[8:]
    if kind == "append":
        return whole + bytes(at % MOST)
    if kind in ("flip", "data", "byte", "move") and whole:
        changed, i = bytearray(whole), at % len(whole)
        if kind == "data":
            start = start_of_tensors(whole)
            i = start + at % (len(whole) - start) if start < len(whole) else i
        if kind in ("flip", "data"):
            changed[i] ^= 1 << more[0] % 8
        elif kind == "byte":
            changed[i] = more[0] % 256
        else:
            del changed[i : i + 1 + more[0] % 8]
        return bytes(changed)
    try:
        return _with_header(whole, lambda outer, inner: lie(outer, inner, kind, at, *more))
    except (ValueError, KeyError, TypeError, RecursionError):
        return whole  # an earlier edit left nothing to parse


def start_of_tensors(whole: bytes) -> int:
    """Where the tensors begin, if the first bytes tell the truth."""
    return 8 + int.from_bytes(whole[:8], "little")


def _with_header(whole: bytes, change: Any) -> bytes:
    """Parse both levels of the header, let `change` act on them, and write them again; raw JSON goes in as
    _Raw.
    """
    start = start_of_tensors(whole)
    outer = json.loads(whole[8:start])
    inner = json.loads(outer["__metadata__"][HEADER])
    change(outer, inner)
    if isinstance(outer.get("__metadata__"), dict) and HEADER in outer["__metadata__"]:
        outer["__metadata__"][HEADER] = dumps(inner)
    text = dumps(outer).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + whole[start:]


class _Raw(str):
    """JSON to be written as it stands, well-formed or not."""


def dumps(value: Any) -> str:
    if isinstance(value, _Raw):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dumps(name)}: {dumps(own)}" for name, own in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(dumps, value)) + "]"
    return json.dumps(value)


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Every container and key or index under `value`, outermost first; not what an earlier edit nested deeper
    still.
    """
    if isinstance(value, dict | list) and depth < 9:
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key], depth + 1)


def lie(outer: Any, inner: Any, kind: str, at: int, more: Any = None) -> None:
    if kind == "patterns":
        for adapter in inner["adapters"]:
            adapter["config"][PATTERNS[at % 2]] = [BOMBS[at % len(BOMBS)]] * (more % MOST)
        return
    places = [*_places(inner), *_places(outer)]
    if kind == "vary":
        places = [(container, key) for container, key in places if type(container[key]) in (int, float)]
    if not places:
        return  # what earlier edits left
    container, key = places[at % len(places)]
    if kind == "vary":
        container[key] += 1
    elif kind == "put":
        container[key] = _Raw(more)
    elif kind == "drop":
        del container[key]
    elif kind == "name" and isinstance(container, dict):
        container[_Raw(more if more.startswith('"') else json.dumps(more))] = container.pop(key)
    elif kind == "again":
        # A second entry under the same name, or the same element twice.
        if isinstance(container, dict):
            container[_Raw(json.dumps(key))] = container[key]
        else:
            container.append(container[key])
    elif kind == "deep":
        container[key] = _Raw("[" * (more % DEEPEST) + "]" * (more % DEEPEST))
    elif kind == "wide":
        container[key] = _Raw("[" + ",".join(["[]", "{}"][more % 2] for _ in range(more % WIDEST)) + "]")
    elif kind == "long":
        container[key] = _Raw(("9" if more % 2 else '"') + "9" * (more % LONGEST) + ("" if more % 2 else '"'))
    elif kind == "many" and isinstance(container, dict):
        container |= {f"{key}{i}": container[key] for i in range(more % MOST)}


def forged(whole: bytes) -> bytes:
    """The file with the digest that its contents have; as it is where they cannot be read."""
    try:
        digests = {name: digest_of(tensor) for name, tensor in tensors_of(whole).items()}
        return _with_header(whole, lambda outer, inner: inner.update(digest=digest_of_all(inner, digests)))
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return whole


ANY = st.integers(0, 2**16 - 1)
BYTE_EDITS = st.one_of(
    st.tuples(st.just("cut"), ANY),
    st.tuples(st.just("flip"), ANY, st.integers(0, 7)),
    st.tuples(st.just("byte"), ANY, st.integers(0, 255)),
    st.tuples(st.just("move"), ANY, st.integers(0, 7)),
    st.tuples(st.just("append"), st.integers(1, MOST - 1)),
    st.tuples(st.just("length"), st.one_of(ANY, st.sampled_from((0, 2**26, 2**31, 2**63, 2**64 - 1)))),
    st.tuples(st.just("noise"), ANY, st.integers(0, 2000)),
    st.tuples(st.just("holes"), st.integers(0, 40)),
)
HEADER_EDITS = st.one_of(
    st.tuples(st.just("put"), ANY, st.sampled_from(LIES)),
    st.tuples(st.just("drop"), ANY),
    st.tuples(st.just("again"), ANY),
    st.tuples(st.just("name"), ANY, st.sampled_from(LIES)),
    st.tuples(st.just("deep"), ANY, st.integers(1, DEEPEST - 1)),
    st.tuples(st.just("long"), ANY, st.integers(1, LONGEST - 1)),
    st.tuples(st.just("many"), ANY, st.integers(1, MOST - 1)),
    st.tuples(st.just("wide"), ANY, st.integers(1, WIDEST - 1)),
    st.tuples(st.just("patterns"), ANY, st.integers(1, MOST - 1)),
)
# What leaves a file well-formed: other numbers.
NUMBER_EDITS = st.one_of(
    st.tuples(st.just("data"), ANY, st.integers(0, 7)),
    st.tuples(st.just("vary"), ANY),
)
EDITS = st.one_of(NUMBER_EDITS, BYTE_EDITS, HEADER_EDITS)


@st.composite
def damaged_files(
    draw: st.DrawFn,
    variant: str,
    *,
    cases: st.SearchStrategy[AdaptedLayer] | None = None,
    edits: st.SearchStrategy[Edit] = EDITS,
    most: int = 3,
    forgeries: st.SearchStrategy[bool] = BOOLEANS,
) -> DamagedFile:
    """A valid file after one edit or a few.

    Shrinks towards one edit of a narrow layer's file, the digest as it was.
    """
    return DamagedFile(
        case=draw(trained_layers(variant) if cases is None else cases),
        edits=tuple(draw(st.lists(edits, min_size=1, max_size=most))),
        forged=draw(forgeries),
    )
