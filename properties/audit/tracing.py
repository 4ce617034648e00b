"""Which code of lora_lite each test runs: coverage.py by test, merged over workers, and the function most
likely at fault.
"""

import ast
import importlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from pathlib import Path
from types import ModuleType

import coverage

import lora_lite as ll
from properties.audit.report import FileCoverage

LIBRARY = Path(ll.__file__).parent


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


@lru_cache(maxsize=1)
def functions() -> list[Function]:
    """Every function of lora_lite but those inside another one, in the order of the files."""
    files = ((path, ast.parse(path.read_text("utf-8"))) for path in sorted(LIBRARY.rglob("*.py")))
    return [function for path, tree in files for function in _functions(path, tree, "")]


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
    """As "lora_lite/adapter.py"."""
    return Path(path).relative_to(LIBRARY.parent).as_posix()


class Tracer:
    """coverage.py over lora_lite, in memory, with the test as context."""

    def __init__(self) -> None:
        self.coverage = coverage.Coverage(
            data_file=None, branch=True, config_file=False, include=[f"{LIBRARY}/*"], messages=False
        )
        # A worker that ran no test has nothing to report, and that is no fault.
        self.coverage.set_option(
            "run:disable_warnings", ["no-data-collected", "module-not-measured", "module-not-imported"]
        )

    @contextmanager
    def during(self, test: str) -> Iterator[None]:
        """Trace the body as this test's."""
        self.coverage.start()
        self.coverage.switch_context(test)
        try:
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

    def tests_of(self) -> dict[Function, set[str]]:
        """The tests that run each function."""
        data = self.coverage.get_data()
        found: dict[Function, set[str]] = {}
        for file in data.measured_files():
            contexts = data.contexts_by_lineno(file)
            for function in functions():
                if function.path == relative(file):
                    lines = range(function.body, function.last + 1)
                    found[function] = {test for line in lines for test in contexts.get(line, ()) if test}
        return found


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


def suspect(
    tests_of: Mapping[Function, set[str]], failing: set[str], passing: set[str], preferred: Function | None
) -> Function | None:
    """The function whose running goes best with failing: Ochiai's coefficient (Abreu et al. 2006).

    Of equally suspect ones `preferred`, then one of the same file, then the longest one of the file that has
    the most of them.
    """

    def score(function: Function) -> float:
        ran = tests_of[function]
        with_it, without = len(ran & failing), len(ran & passing)
        return round(with_it / sqrt(len(failing) * (with_it + without)), 9) if with_it else 0.0

    scores = {function: score(function) for function in tests_of}
    highest = max(scores.values(), default=0.0)
    if not highest:
        return preferred
    best = [function for function, reached in scores.items() if reached == highest]
    files = Counter(function.path for function in best)

    def rank(function: Function) -> tuple[bool, bool, int, int]:
        near = preferred is not None and function.path == preferred.path
        return function == preferred, near, files[function.path], function.last - function.line

    return max(best, key=rank)


def function_of(code_owner: object) -> Function | None:
    """The Function of a live function of lora_lite."""
    code = getattr(code_owner, "__code__", None)
    if code is None or not Path(code.co_filename).is_relative_to(LIBRARY):
        return None
    path = relative(code.co_filename)
    return next((f for f in functions() if f.path == path and f.first == code.co_firstlineno), None)
