"""Which lines of lora_lite, and of a user's variants, each test runs: coverage.py by test, merged over
workers.
"""

import ast
import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from types import ModuleType

import coverage

import lora_lite as ll
from properties.audit.places.localise import Line, Statement
from properties.audit.sight import FileCoverage
from properties.judging.failing import failing_again

LIBRARY = Path(ll.__file__).parent
# The context of a test's smallest failing case is the test's own, with this behind it.
SMALLEST = " smallest failing case"


@dataclass(frozen=True)
class Function:
    """A function or method of lora_lite. first: of its decorators or def; body: the first line inside."""

    path: str
    name: str
    first: int
    line: int
    body: int
    last: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.name}"

    @property
    def key(self) -> str:
        """As earlier runs know it, whatever has been written above it since."""
        return f"{self.path} {self.name}"


@lru_cache(maxsize=1)
def functions() -> list[Function]:
    """Every function of lora_lite but those inside another one, in the order of the files."""
    files = ((path, ast.parse(path.read_text("utf-8"))) for path in sorted(LIBRARY.rglob("*.py")))
    return [function for path, tree in files for function in _functions(path, tree, "")]


@lru_cache(maxsize=1)
def _by_line() -> dict[tuple[str, int], Function]:
    return {(function.path, function.first): function for function in functions()}


def _functions(path: Path, node: ast.AST, prefix: str) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
            last = child.end_lineno or child.lineno
            yield Function(
                relative(path), prefix + child.name, first, child.lineno, child.body[0].lineno, last
            )
        elif isinstance(child, ast.ClassDef):
            yield from _functions(path, child, f"{prefix}{child.name}.")


def relative(path: Path | str) -> str:
    """As "lora_lite/adapter.py"; a user's file as seen from the working directory, or in full."""
    path = Path(path)
    for root in (LIBRARY.parent, Path.cwd()):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.as_posix()


def users_files() -> list[Path]:
    """The modules of registered variants that are not lora_lite's."""
    modules = {variant.__module__ for variant in ll.VARIANTS.values()}
    files = {Path(file) for name in modules if (file := getattr(sys.modules.get(name), "__file__", None))}
    return sorted(file for file in files if not file.is_relative_to(LIBRARY))


def module_of(variant: str) -> str:
    """The file that a variant is written in."""
    return relative(sys.modules[ll.VARIANTS[variant].__module__].__file__ or "")


def statements() -> Mapping[Line, Statement]:
    """Of every line inside a function of lora_lite, or of a user's variant, the statement that it is part
    of.
    """
    return _statements((*sorted(LIBRARY.rglob("*.py")), *users_files()))


@lru_cache(maxsize=1)
def _statements(files: tuple[Path, ...]) -> Mapping[Line, Statement]:
    found: dict[Line, Statement] = {}
    for path in files:
        tree = ast.parse(path.read_text("utf-8"))
        owned = {f.first: f for f in _functions(path, tree, "")}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                if function := owned.get(first):
                    _fill(found, function, node.body, count())
    return found


# What stands inside of a compound statement.
_INSIDE = (ast.stmt, ast.excepthandler, ast.match_case)


def _fill(
    found: dict[Line, Statement], function: Function, body: list[ast.stmt], number: Iterator[int]
) -> None:
    """An outer statement's lines before those of the ones inside of it, which take theirs over."""
    for node in body:
        head = [part for part in ast.iter_child_nodes(node) if not isinstance(part, _INSIDE)]
        size = sum(1 for part in head for _ in ast.walk(part))
        made = Statement(function.key, function.path, node.lineno, next(number), size)
        found.update({(made.file, line): made for line in range(node.lineno, (node.end_lineno or 0) + 1)})
        holders = [node, *getattr(node, "handlers", []), *getattr(node, "cases", [])]
        for holder in holders:
            for name in ("body", "orelse", "finalbody"):
                if isinstance(inner := getattr(holder, name, None), list):
                    _fill(found, function, inner, number)


class Tracer:
    """coverage.py over lora_lite, in memory, with the test as context."""

    def __init__(self) -> None:
        self.coverage = coverage.Coverage(
            data_file=None,
            branch=True,
            config_file=False,
            include=[f"{LIBRARY}/*", *map(str, users_files())],
            messages=False,
        )
        # A worker that ran no test has nothing to report, and that is no fault.
        self.coverage.set_option(
            "run:disable_warnings", ["no-data-collected", "module-not-measured", "module-not-imported"]
        )

    @contextmanager
    def during(self, test: str) -> Iterator[None]:
        """Trace the body as this test's, and the smallest failing case of its claim apart."""

        @contextmanager
        def smallest() -> Iterator[None]:
            self.coverage.switch_context(test + SMALLEST)
            try:
                yield
            finally:
                self.coverage.switch_context(test)

        self.coverage.start()
        self.coverage.switch_context(test)
        try:
            with failing_again(smallest):
                yield
        finally:
            self.coverage.stop()

    def imported(self) -> None:
        """Trace an import too, of a second copy that nobody gets to see: this one's was over before the first
        test.
        """
        kept = _forgotten()
        try:
            with self.during("import"):
                importlib.import_module(ll.__name__)
        finally:
            _forgotten()
            sys.modules.update(kept)

    def dumps(self) -> bytes:
        """What was traced, to be sent to another process."""
        return self.coverage.get_data().dumps()

    def add(self, dumped: bytes) -> None:
        """Merge what another process has traced."""
        other = coverage.CoverageData(no_disk=True)
        other.loads(dumped)
        self.coverage.get_data().update(other)

    def files(self) -> list[FileCoverage]:
        """Lines and branches of every file."""
        return [self._file(path) for path in sorted(LIBRARY.rglob("*.py"))]

    def _file(self, path: Path) -> FileCoverage:
        _, lines, _, never, _ = self.coverage.analysis2(str(path))
        branches = self.coverage.branch_stats(str(path))
        total, taken = (sum(counts[i] for counts in branches.values()) for i in (0, 1))
        half = [
            f"{line} (a branch)"
            for line, (exits, seen) in sorted(branches.items())
            if seen < exits and line not in never
        ]
        return FileCoverage(
            relative(path),
            len(lines),
            len(lines) - len(never),
            total,
            taken,
            [*_ranges(sorted(never)), *half],
        )

    def lines_of(self) -> dict[str, frozenset[Line]]:
        """The lines that each test ran, and each smallest failing case."""
        data = self.coverage.get_data()
        found: dict[str, set[Line]] = {}
        for file in data.measured_files():
            for line, tests in data.contexts_by_lineno(file).items():
                for test in tests:
                    found.setdefault(test, set()).add((relative(file), line))
        return {test: frozenset(lines) for test, lines in found.items() if test}


def _forgotten() -> dict[str, ModuleType]:
    """lora_lite's modules, which are no longer known as imported."""
    return {
        name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == ll.__name__
    }


def _ranges(lines: list[int]) -> list[str]:
    """[3, 4, 5, 9] as "3-5", "9"."""
    groups: list[list[int]] = []
    for line in lines:
        if groups and line == groups[-1][-1] + 1:
            groups[-1].append(line)
        else:
            groups.append([line])
    return [str(group[0]) if len(group) == 1 else f"{group[0]}-{group[-1]}" for group in groups]


def function_of(code_owner: object) -> Function | None:
    """The Function of a live function of lora_lite."""
    code = getattr(code_owner, "__code__", None)
    if code is None or not Path(code.co_filename).is_relative_to(LIBRARY):
        return None
    return _by_line().get((relative(code.co_filename), code.co_firstlineno))
