"""Finding a fragment of Python in a function's syntax tree, and putting another one in its place.

Layout, comments and line lengths are not in the tree. Two more things do not matter:

- a hole, `_a` to `_z`, stands for any expression, and as the one statement of a block for the whole block;
- a name that neither the function nor its module has is taken for a local that was renamed since, and stands
  for any local of the function, the same one throughout.
"""

import ast
import builtins
import copy
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from functools import cache
from types import FunctionType

Block = list[ast.stmt]
Nodes = Sequence[ast.AST]
# What stands around the body of a function.
HEAD = {*ast.FunctionDef._fields} - {"body"}
# Where a node keeps the name of a local: besides ast.Name these are arguments, handlers, nested functions.
NAMED = {ast.Name: "id", ast.arg: "arg", ast.ExceptHandler: "name", ast.FunctionDef: "name"}


class InjectionError(Exception):
    """A mutant that cannot be applied: what it changes is not there, or not once; it would test nothing."""


@cache
def tree_of(function: FunctionType) -> ast.FunctionDef:
    """Of the function's source, without decorators and docstrings. To be copied before it is changed."""
    # Of its code: of a wrapper, inspect would give the source of what is wrapped.
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function.__code__))).body
    assert isinstance(definition, ast.FunctionDef)
    definition.decorator_list = []
    for node in ast.walk(definition):
        if isinstance(node, ast.FunctionDef) and _is_docstring(first := node.body[0]):
            node.body = node.body[1:] or [ast.copy_location(ast.Pass(), first)]
    return definition


def _is_docstring(first: ast.stmt) -> bool:
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)


@cache
def parsed(fragment: str) -> Block:
    """The statements of a fragment; nothing is `pass`. Raises InjectionError where it is no Python."""
    try:
        return ast.parse(fragment or "pass").body
    except SyntaxError as error:
        raise InjectionError(f"{fragment!r}: {error}") from None


@dataclass
class Match:
    """What the holes and the renamed names of a fragment stand for, as far as it is known."""

    locals: frozenset[str]
    stale: frozenset[str]
    names: dict[str, str] = field(default_factory=dict)
    holes: dict[str, ast.expr | Block] = field(default_factory=dict)

    def name(self, wanted: str, found: str) -> bool:
        """Whether a name may stand for another one, here and where it was met before."""
        if wanted not in self.stale:
            return wanted == found and found not in self.names.values()
        if wanted in self.names:
            return self.names[wanted] == found
        if found not in self.locals or found in self.names.values():
            return False
        self.names[wanted] = found
        return True

    def hole(self, name: str, found: ast.expr | Block) -> bool:
        """Whether a hole may stand for this, here and where it was met before."""
        return dumped(self.holes.setdefault(name, found)) == dumped(found)

    def nodes(self, wanted: object, found: object) -> bool:
        """Whether the fragment's node, or list of nodes, is the function's."""
        if isinstance(wanted, ast.expr) and isinstance(found, ast.expr) and (name := hole_in(wanted)):
            return self.hole(name, found)
        if isinstance(wanted, list) and isinstance(found, list):
            if name := hole_in(wanted):
                return self.hole(name, found)
            pairs = zip(wanted, found, strict=False)
            return len(wanted) == len(found) and all(self.nodes(a, b) for a, b in pairs)
        if not isinstance(wanted, ast.AST) or type(wanted) is not type(found):
            return type(wanted) is type(found) and repr(wanted) == repr(found)
        return all(self.fields(wanted, found, name) for name in wanted._fields if name != "type_comment")

    def fields(self, wanted: ast.AST, found: ast.AST, name: str) -> bool:
        """As nodes, of one field of each."""
        ours, theirs = getattr(wanted, name), getattr(found, name)
        if NAMED.get(type(wanted)) == name and isinstance(ours, str) and isinstance(theirs, str):
            return self.name(ours, theirs)
        return self.nodes(ours, theirs)


def hole_in(wanted: ast.expr | list[object]) -> str | None:
    """The name of the hole that an expression is, or that is all of a block."""
    if isinstance(wanted, list):
        one = wanted[0] if len(wanted) == 1 else None
        return hole_in(one.value) if isinstance(one, ast.Expr) else None
    return wanted.id if isinstance(wanted, ast.Name) and re.fullmatch("_[a-z]", wanted.id) else None


def dumped(node: ast.AST | Block) -> str:
    """What two equal trees have in common, wherever they stand."""
    return "; ".join(map(ast.dump, node)) if isinstance(node, list) else ast.dump(node)


def names_in(nodes: Nodes, context: type[ast.expr_context] = ast.expr_context) -> frozenset[str]:
    """Every name in it that a local could have; as ast.Store, those that something is given."""
    named = (node for one in nodes for node in ast.walk(one) if type(node) in NAMED)
    # What is no ast.Name gives its name something.
    found = {getattr(n, NAMED[type(n)]) for n in named if isinstance(getattr(n, "ctx", ast.Store()), context)}
    return frozenset(found - {None})


def locals_of(definition: ast.FunctionDef) -> frozenset[str]:
    """What the function, or one inside of it, assigns or takes as an argument."""
    return names_in([definition], ast.Store) - {definition.name}


@dataclass(frozen=True)
class Place:
    """Where something stands: the field of a node, or a part of the list that this field is."""

    owner: ast.AST
    name: str
    at: slice | None

    @property
    def there(self) -> Nodes:
        """What stands there."""
        found = getattr(self.owner, self.name)
        return [found] if self.at is None else found[self.at]

    def put(self, new: Nodes) -> None:
        """These in the place of what stands there."""
        for node in (inner for one in new for inner in ast.walk(one)):
            ast.copy_location(node, self.there[0])
        if self.at is None:
            setattr(self.owner, self.name, *new)
        else:
            getattr(self.owner, self.name)[self.at] = new


def places(
    node: ast.AST, left_alone: Callable[[ast.AST], Collection[str]]
) -> Iterator[tuple[Place, ast.expr | ast.stmt]]:
    """Every expression and statement in a tree, with where it stands, always in the same order; but for what
    is in fields that are left alone.
    """
    alone = left_alone(node)
    for name, value in ast.iter_fields(node):
        for i, item in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(item, ast.AST) and name not in alone:
                if isinstance(item, ast.expr | ast.stmt):
                    yield Place(node, name, None if i is None else slice(i, i + 1)), item
                yield from places(item, left_alone)


def replace(function: FunctionType, definition: ast.FunctionDef, before: str, after: str) -> None:
    """In the definition, `before` becomes `after`. Raises InjectionError where it is not there once."""
    old, new = parsed(before), parsed(after)
    # An expression may stand anywhere, and not as a statement alone.
    alone = all(len(block) == 1 and isinstance(block[0], ast.Expr) for block in (old, new))
    found = list(search(function, definition, _values(old) if alone else old))
    if len(found) != 1 or dumped(old) == dumped(new):
        name = f"{function.__module__}:{function.__qualname__}"
        raise InjectionError(
            f"{name}: {before!r} occurs {len(found)} times, wanted once, to become {after!r}"
        )
    place, match = found[0]
    filled = _Fill(match).block(copy.deepcopy(new))
    place.put(_values(filled) if alone else filled)


def _values(block: Block) -> list[ast.expr]:
    return [statement.value for statement in block if isinstance(statement, ast.Expr)]


def search(function: FunctionType, definition: ast.FunctionDef, old: Nodes) -> Iterator[tuple[Place, Match]]:
    """Where the old, statements or an expression, is in the body of the function, and as what."""
    own, known = names_in([definition]), function.__globals__.keys() | vars(builtins).keys()
    stale = frozenset(name for name in names_in(old) - own - known if not re.fullmatch("_[a-z]", name))
    others = locals_of(definition) - names_in(old)
    for place, node in places(definition, lambda node: HEAD if node is definition else ()):
        if isinstance(node, ast.stmt) == isinstance(old[0], ast.stmt):
            if place.at is not None:
                # As many as there are of the old, from here on.
                place = replaced(place, at=slice(place.at.start, place.at.start + len(old)))
            if (match := Match(others, stale)).nodes(old, place.there):
                yield place, match


class _Fill(ast.NodeTransformer):
    """Puts in what the holes and the renamed names stand for."""

    def __init__(self, match: Match) -> None:
        self.match = match

    def block(self, new: Block) -> Block:
        return [made for statement in new for made in _listed(self.visit(statement))]

    def visit(self, node: ast.AST) -> ast.AST | Block:
        if isinstance(node, ast.Expr) and (name := hole_in(node.value)) in self.match.holes:
            found = self.match.holes[name]
            return copy.deepcopy(found if isinstance(found, list) else ast.Expr(found))
        if isinstance(node, ast.Name) and (name := hole_in(node)) in self.match.holes:
            return copy.deepcopy(self.match.holes[name])
        if (where := NAMED.get(type(node))) and (own := getattr(node, where)) in self.match.names:
            setattr(node, where, self.match.names[own])
        return self.generic_visit(node)


def _listed(made: ast.AST | Block) -> Block:
    return made if isinstance(made, list) else [made]  # type: ignore[list-item]  # a statement
