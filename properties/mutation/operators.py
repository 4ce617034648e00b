"""Generic operators: what can be wrong with an expression or a statement, whatever it is about.

Each looks at one node of a function's tree and says what could stand there in its place. Annotations,
docstrings, and the messages of errors are left alone.
"""

import ast
from collections.abc import Callable, Collection, Iterator
from itertools import pairwise
from typing import Any

# (name of the operator, what stands there in place of the node)
Edits = Iterator[tuple[str, ast.AST]]
OPERATORS: dict[type[ast.AST], list[Callable[[Any], Edits]]] = {}


def _taken(told: str) -> dict[str, list[str]]:
    """What each may be taken for: "one other, this that/those"."""
    return {one: others.split("/") for one, others in (pair.split() for pair in told.split(", "))}


# By the names of their classes in ast.
ARITHMETIC = _taken(
    "Add Sub, Sub Add, Mult Div, Div Mult, FloorDiv Mult, Mod FloorDiv, Pow Mult, BitOr BitAnd, BitAnd BitOr"
)
COMPARISON = _taken(
    "Lt LtE/GtE, LtE Lt/Gt, Gt GtE/LtE, GtE Gt/Lt, Eq NotEq, NotEq Eq, Is IsNot, IsNot Is, In NotIn, NotIn In"
)
# Properties that stand for what they belong to, but for one thing.
VIEWS = ("mT", "T", "data")
# Names that stand beside each other in a manual, and are taken for each other.
NEIGHBOURS = _taken(
    "min max, max min, any all, all any, sum mean, abs square, round int, repeat_interleave repeat,"
    " zeros ones/kaiming_uniform, kaiming_uniform zeros, kaiming_uniform_ kaiming_normal_,"
    " fullmatch match/search, base_parameters named_parameters, full_tensor to_local, float64 float32"
)
WORDS = _taken("exact rounding, rounding exact, zero nonzero, nonzero zero")
# Calls that answer yes or no.
QUESTIONS = ("hasattr", "isinstance", "issubclass", "callable", "any", "all")
# What multiplies.
FACTORS = ("scale", "alpha")


def operator(*kinds: type[ast.AST]) -> Callable[[Callable[[Any], Edits]], Callable[[Any], Edits]]:
    """Make a function of a node one of the operators."""

    def register(edits: Callable[[Any], Edits]) -> Callable[[Any], Edits]:
        for kind in kinds:
            OPERATORS.setdefault(kind, []).append(edits)
        return edits

    return register


def edits(node: ast.AST) -> Edits:
    """All that the operators make of a node."""
    for one in OPERATORS.get(type(node), ()):
        yield from one(node)


def _with(node: ast.AST, **fields: Any) -> Any:
    """The node with other fields."""
    same = {name: getattr(node, name) for name in node._fields if hasattr(node, name)}
    return type(node)(**{**same, **fields})


def _put(items: list[Any], i: int, *new: Any) -> list[Any]:
    """The items with these in the place of the i-th."""
    return [*items[:i], *new, *items[i + 1 :]]


def _others(table: dict[str, list[str]], one: ast.AST) -> list[ast.AST]:
    return [getattr(ast, name)() for name in table.get(type(one).__name__, ())]


@operator(ast.BinOp, ast.AugAssign)
def _arithmetic(node: ast.BinOp | ast.AugAssign) -> Edits:
    for other in _others(ARITHMETIC, node.op):
        yield "arithmetic", _with(node, op=other)
    if isinstance(node, ast.BinOp):
        yield from (("operand", one) for one in (node.left, node.right))
    else:
        yield "operand", ast.Assign([node.target], node.value, lineno=node.lineno)


@operator(ast.Compare)
def _comparison(node: ast.Compare) -> Edits:
    for i, one in enumerate(node.ops):
        for other in _others(COMPARISON, one):
            yield "comparison", _with(node, ops=_put(node.ops, i, other))


@operator(ast.Compare, ast.UnaryOp, ast.Call)
def _answer(node: ast.expr) -> Edits:
    asks = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in QUESTIONS
    denies = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)
    if asks or denies or isinstance(node, ast.Compare):
        yield from (("condition", ast.Constant(value)) for value in (True, False))


@operator(ast.BoolOp)
def _boolean(node: ast.BoolOp) -> Edits:
    yield "boolean", _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for i in range(len(node.values)):
        rest = _put(node.values, i)
        yield "boolean", rest[0] if len(rest) == 1 else _with(node, values=rest)


@operator(ast.UnaryOp)
def _unary(node: ast.UnaryOp) -> Edits:
    yield "unary", node.operand


@operator(ast.Constant)
def _constant(node: ast.Constant) -> Edits:
    if isinstance(node.value, bool):
        yield "truth", ast.Constant(not node.value)
    elif isinstance(node.value, str) and node.value in WORDS:
        yield from (("neighbour", ast.Constant(other)) for other in WORDS[node.value])
    elif isinstance(node.value, int | float):
        for other in (node.value + 1, node.value - 1, node.value * 2):
            yield "constant", ast.Constant(other)


@operator(ast.If, ast.While, ast.IfExp)
def _condition(node: ast.If | ast.While | ast.IfExp) -> Edits:
    if isinstance(node, ast.IfExp):
        yield from (("condition", one) for one in (node.body, node.orelse))
    else:
        # while True would not end.
        for value in (True, False)[isinstance(node, ast.While) :]:
            yield "condition", _with(node, test=ast.Constant(value))


@operator(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
def _filter(node: Any) -> Edits:
    for i, one in enumerate(node.generators):
        for test in one.ifs:
            left = _with(one, ifs=[other for other in one.ifs if other is not test])
            yield "condition", _with(node, generators=_put(node.generators, i, left))


@operator(ast.Call)
def _arguments(node: ast.Call) -> Edits:
    for i in range(len(node.args)):
        yield "argument dropped", _with(node, args=_put(node.args, i))
    for i, (first, second) in enumerate(pairwise(node.args)):
        swapped = [*node.args[:i], second, first, *node.args[i + 2 :]]
        yield "arguments swapped", _with(node, args=swapped)
    for i, keyword in enumerate(node.keywords):
        # zip(strict=True) asserts what holds.
        if keyword.arg != "strict":
            yield "keyword dropped", _with(node, keywords=_put(node.keywords, i))


@operator(ast.Call)
def _bare(node: ast.Call) -> Edits:
    """The call replaced by what it is called on, or with."""
    if isinstance(node.func, ast.Attribute):
        yield "call dropped", node.func.value
    yield from (("call dropped", one) for one in node.args[:3] if not isinstance(one, ast.Starred))


@operator(ast.Attribute)
def _view(node: ast.Attribute) -> Edits:
    if node.attr in VIEWS:
        yield "call dropped", node.value
    for other in NEIGHBOURS.get(node.attr, ()):
        yield "neighbour", _with(node, attr=other)
    if node.attr in FACTORS:
        inverse, square = (ast.Constant(1), ast.Div(), node), (node, ast.Pow(), ast.Constant(2))
        others = ast.Constant(1.0), ast.UnaryOp(ast.USub(), node), ast.BinOp(*inverse), ast.BinOp(*square)
        yield from (("factor", one) for one in others)
    if isinstance(node.value, ast.Name) and node.value.id == "self" and isinstance(node.ctx, ast.Load):
        yield from _detached(node)


@operator(ast.Name)
def _name(node: ast.Name) -> Edits:
    for other in NEIGHBOURS.get(node.id, ()):
        yield "neighbour", ast.Name(other, node.ctx)
    # What has one letter is a tensor, as in the papers; where it is none, the mutant is loud.
    if len(node.id) == 1 and isinstance(node.ctx, ast.Load):
        yield from _detached(node)


def _detached(node: ast.expr) -> Edits:
    yield "detached", ast.Call(ast.Attribute(node, "detach", ast.Load()), [], [])


@operator(ast.For, ast.Starred, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
def _some(node: Any) -> Edits:
    """What is gone through: the first of it alone, or all of it in reverse; of a loop, nothing."""
    if isinstance(node, ast.For):
        yield from (("order", _with(node, iter=other)) for other in _cut(node.iter))
        yield "loop not run", _with(node, iter=ast.Tuple([], ast.Load()))
    elif isinstance(node, ast.Starred):
        yield from (("order", _with(node, value=other)) for other in _cut(node.value))
    else:
        first, *rest = node.generators
        for other in _cut(first.iter):
            yield "order", _with(node, generators=[_with(first, iter=other), *rest])


def _cut(items: ast.expr) -> Iterator[ast.expr]:
    plain = isinstance(items, ast.Name | ast.Attribute)
    listed = items if plain else ast.List([ast.Starred(items, ast.Load())], ast.Load())
    first, turned = ast.Slice(None, ast.Constant(1)), ast.Slice(None, None, ast.Constant(-1))
    yield from (ast.Subscript(listed, cut, ast.Load()) for cut in (first, turned))


@operator(ast.Slice)
def _slice(node: ast.Slice) -> Edits:
    for bound in ("lower", "upper", "step"):
        if getattr(node, bound) is not None:
            yield "slice", _with(node, **{bound: None})


@operator(ast.Expr, ast.AugAssign, ast.Raise, ast.Delete, ast.Break, ast.Continue, ast.Return, ast.Assign)
def _statement(node: ast.stmt) -> Edits:
    yield "statement deleted", ast.Pass()


@operator(ast.Try)
def _handler(node: ast.Try) -> Edits:
    for i, one in enumerate(node.handlers):
        if one.type is not None:
            wide = _with(one, type=ast.Name("Exception", ast.Load()))
            yield "except widened", _with(node, handlers=_put(node.handlers, i, wide))
    if node.finalbody and not node.handlers:
        yield "finally dropped", ast.If(ast.Constant(True), [*node.body, *node.finalbody], [])


@operator(ast.With)
def _context(node: ast.With) -> Edits:
    if all(item.optional_vars is None for item in node.items):
        # What a wrapper closes over has to be read in it as before, or its code would not fit.
        read = [n for item in node.items for n in ast.walk(item) if isinstance(n, ast.Name)]
        yield "context dropped", ast.If(ast.Tuple([*read, ast.Constant(0)], ast.Load()), node.body, [])


def left_alone(node: ast.AST) -> Collection[str]:
    """The fields of a node that no operator looks into."""
    if isinstance(node, ast.Raise):
        return ("exc", "cause")
    if isinstance(node, ast.JoinedStr):
        return ("values",)
    return ("annotation", "returns", "decorator_list", "args" if isinstance(node, ast.FunctionDef) else "")
