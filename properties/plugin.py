"""The pytest side: options, profiles, which variants to judge, and the table at the end."""

import importlib
import os
from pathlib import Path
from typing import cast

import pytest
import torch
from hypothesis import settings

import lora_lite as ll
from properties.audit import Measured, table
from properties.registry import register_profiles
from strategies import set_device

register_profiles()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lora-lite", "judging adapters")
    group.addoption("--variant", action="append", metavar="NAME", help="judge only this variant (repeatable)")
    group.addoption("--variant-module", action="append", metavar="MODULE", help="import a module that registers variants")
    group.addoption("--max-examples", type=int, metavar="N", help="examples per property and variant")
    group.addoption("--device", default="cpu", help="build everything there, for example cuda")
    group.addoption("--audit", metavar="DIR", help="write the verdict table to DIR/audit.md")


def pytest_configure(config: pytest.Config) -> None:
    # Six times faster than two threads on tensors this small (measured), and one worker a core.
    torch.set_num_threads(1)
    set_device(config.getoption("--device"))
    if not config.getoption("--hypothesis-profile", None):
        settings.load_profile("ci" if os.environ.get("CI") else "dev")
    if (examples := config.getoption("--max-examples")) is not None:
        settings.register_profile("budget", settings(), max_examples=examples)
        settings.load_profile("budget")
    for module in config.getoption("--variant-module") or ():
        importlib.import_module(module)
    unknown = set(config.getoption("--variant") or ()) - set(ll.VARIANTS)
    if unknown:
        raise pytest.UsageError(f"--variant: no variant {', '.join(sorted(unknown))}; known: {', '.join(ll.VARIANTS)}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise over the judged variants, in the order of registration."""
    if "variant" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--variant") or list(ll.VARIANTS)
        applies = getattr(metafunc.function, "applies", lambda variant: True)
        metafunc.parametrize("variant", [v for v in ll.VARIANTS if v in wanted and applies(ll.VARIANTS[v])])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The table of variants by properties; also to DIR/audit.md with --audit DIR."""
    measured = [
        Measured(*cast(tuple[str, str, int | None, float | None], value))
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == "measured"
    ]
    if not measured or (config.getoption("--audit") is None and config.getoption("verbose") < 1):
        return
    text = table(measured)
    terminalreporter.write_sep("=", "verdict")
    terminalreporter.write_line(text)
    if (folder := config.getoption("--audit")) is not None:
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        (path / "audit.md").write_text(text + "\n", encoding="utf-8")
