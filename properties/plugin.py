"""The pytest side: options, profiles, which variants to judge, and the table at the end."""

import importlib
import json
import os
from pathlib import Path
from typing import cast

import pytest
import torch
from hypothesis import settings

import lora_lite as ll
from properties.audit import Measured, matrix, table
from properties.mutants.matrix import Cell, Row
from properties.profiles import check_database, register_profiles
from properties.regressions import travel
from properties.regressions.record import add_options
from strategies import set_device

register_profiles()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lora-lite", "judging adapters")
    group.addoption("--variant", action="append", metavar="NAME", help="judge only this variant (repeatable)")
    group.addoption("--variant-module", action="append", metavar="MODULE", help="import a module that registers variants")
    group.addoption("--max-examples", type=int, metavar="N", help="examples per property and variant")
    group.addoption("--device", default="cpu", help="build everything there, for example cuda")
    add_options(group)
    group.addoption("--audit", metavar="DIR", help="print the verdict table and write it to DIR/audit.md")


@pytest.hookimpl(trylast=True)  # after Hypothesis's own, which loads --hypothesis-profile
def pytest_configure(config: pytest.Config) -> None:
    # Six times faster than two threads on tensors this small (measured), and one worker a core.
    torch.set_num_threads(1)
    set_device(config.getoption("--device"))
    if not config.getoption("--hypothesis-profile", None):
        settings.load_profile("ci" if os.environ.get("CI") else "dev")
    if (examples := config.getoption("--max-examples")) is not None:
        settings.register_profile("budget", settings(), max_examples=examples)
        settings.load_profile("budget")
    check_database()
    for module in config.getoption("--variant-module") or ():
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise pytest.UsageError(f"--variant-module {module}: {error} (is its folder on PYTHONPATH?)") from error
    unknown = set(config.getoption("--variant") or ()) - set(ll.VARIANTS)
    if unknown:
        known = ", ".join(ll.VARIANTS)
        raise pytest.UsageError(
            f"--variant: no variant {', '.join(sorted(unknown))}; known: {known}. One of your own wants --variant-module."
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise over the judged variants, in the order of registration."""
    if "variant" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--variant") or list(ll.VARIANTS)
        applies = getattr(metafunc.function, "applies", lambda variant: True)
        metafunc.parametrize("variant", [v for v in ll.VARIANTS if v in wanted and applies(ll.VARIANTS[v])])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A property that is about none of the judged variants is deselected, not skipped. Regressions come before any drawing."""
    idle = [item for item in items if not _judges(item)]
    if idle:
        config.hook.pytest_deselected(items=idle)
    items[:] = sorted((item for item in items if _judges(item)), key=lambda item: "regression" not in _parameters(item))


def _judges(item: pytest.Item) -> bool:
    # pytest puts a sentinel of its own where there is nothing to parametrise with.
    return all(isinstance(_parameters(item).get(name, ""), str) for name in ("variant", "regression"))


def _parameters(item: pytest.Item) -> dict[str, object]:
    return getattr(getattr(item, "callspec", None), "params", {})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table of variants by properties and the mutation matrix, with --audit also as files; workers' results together."""
    folder = config.getoption("--audit")
    measured, rows = _results(terminalreporter)
    if folder is None and config.getoption("verbose") < 1 and "A" not in config.getoption("reportchars"):
        return
    texts = {
        "audit.md": table(measured) if measured else "",
        "mutants.txt": matrix(rows) if rows else "",
        "regressions.txt": travel.summary(_calls(terminalreporter)),
    }
    for name, text in texts.items():
        if not text:
            continue
        terminalreporter.write_sep("=", Path(name).stem)
        terminalreporter.write_line(text)
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / name).write_text(text + "\n", encoding="utf-8")


def _results(terminalreporter: pytest.TerminalReporter) -> tuple[list[Measured], list[Row]]:
    """What the tests measured, in the order of the tests and not of the workers."""
    measured, rows = [], []
    for report in _calls(terminalreporter):
        for name, value in report.user_properties:
            if name == "measured":
                measured.append(Measured(*cast(tuple[str, str, int | None, dict[str, float], float], value)))
            elif name == "row":
                cells = [Cell(**cell) for cell in json.loads(cast(str, value))]
                rows.append(Row(cells[0].mutant, cells))
    return measured, rows


def _calls(terminalreporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    reports = (report for reports in terminalreporter.stats.values() for report in reports)
    calls = [report for report in reports if isinstance(report, pytest.TestReport) and report.when == "call"]
    return sorted(calls, key=lambda report: report.nodeid)
