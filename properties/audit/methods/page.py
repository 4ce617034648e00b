"""properties/methods.md: the table as text, with two digests by which a test holds it up to date."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path

from properties.audit.methods.entries import SIZES, Contents, Entry, Follower, contents, own
from properties.audit.methods.following import follower
from properties.audit.render import environment
from properties.judging.place import PACKAGE
from properties.subjects.bindings import BINDINGS
from properties.subjects.living import library, method_of, methods_of

PAGE = PACKAGE / "methods.md"
DIGESTS = re.compile(r"<!-- made of ([0-9a-f]{16}), text ([0-9a-f]{16}) -->\n$")
# Of symbols with a number; A1, B1, A2, B2 are four names.
MOST_NAMED = 3
Look = Callable[[str], Follower]


def page(look: Look = follower) -> str:
    """The whole file, which takes a minute: each method is built with every one of its settings."""
    found = contents()
    body = (
        environment()
        .get_template("methods.md.j2")
        .render(
            contents=found,
            size=SIZES[0],
            ranged=ranged,
            without=_without(found),
            section=lambda entry: section(entry, look),
        )
    )
    body = tidy(body)
    return f"{body}\n<!-- made of {of_contents(found)}, text {of_text(body)} -->\n"


def tidy(text: str) -> str:
    """One empty line where the templates leave several."""
    return re.sub(r"\n{3,}", "\n\n", text)


def section(entry: Entry, look: Look = follower) -> str:
    """One formula with all that are bound to it."""
    head = environment().get_template("entry.md.j2").render(entry=entry)
    followers = (look(m) if m in BINDINGS else own(m.partition(":")[2]) for m in entry.followers)
    return "\n".join([head, *map(block, followers)])


def block(one: Follower) -> str:
    """One method of one library."""
    return environment().get_template("follower.md.j2").render(one=one)


def _without(found: Contents) -> str:
    told = [f"{name}: {', '.join(methods)}" for name, methods in found.without.items() if methods]
    return "; ".join(told) or "none"


def ranged(names: Iterable[str]) -> list[str]:
    """A0, A1, ... A11 as "A0 to A11"."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.rstrip("0123456789") if name[-1].isdigit() else name, []).append(name)
    return [
        text
        for own in found.values()
        for text in ([f"{own[0]} to {own[-1]}"] if len(own) > MOST_NAMED else own)
    ]


def of_contents(found: Contents) -> str:
    """A digest of all that the table is made of and that needs no layer to be built: headers, bindings, and
    the names and values of every setting.
    """
    bindings = {m: [b.oracle, dict(b.inert), b.dtypes] for m, b in BINDINGS.items()}
    here = [name for name in found.versions if not library(name).missing()]
    settings = {m: dict(method_of(m).numbers) for name in here for m in methods_of(name)}
    return _short(json.dumps([asdict(found), bindings, settings], sort_keys=True, default=str))


def of_text(body: str) -> str:
    """By which a change by hand is seen."""
    return _short(body)


def _short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:16]


def read(path: Path = PAGE) -> tuple[str, str, str]:
    """The text, and the digests of what it was made of and of itself. Raises ValueError where it has none."""
    text = path.read_text("utf-8")
    if (found := DIGESTS.search(text)) is None:
        raise ValueError(
            f"{path}: found no digests in its last line. Write it: python -m properties.audit methods"
        )
    return text[: found.start()].removesuffix("\n"), found[1], found[2]
