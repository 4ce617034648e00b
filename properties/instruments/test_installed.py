"""From a wheel, in a folder of its user's: what runs there, what it costs, writes and refuses."""

import re
import shlex
from pathlib import Path

import pytest

from properties.instruments.own_variant import LEFT, ROOT, install, pytest_at, readme_example
from properties.new.__main__ import main, texts

pytestmark = [pytest.mark.instruments, pytest.mark.slow]

OURS = "'torch', 'hypothesis', 'lora_lite', 'properties', 'strategies'"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("published"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A repository with README's variant in one file, as mine.py."""
    example = readme_example()
    (tmp_path / "mine.py").write_text(example["gain.py"] + example["gain_oracle.py"], encoding="utf-8")
    return tmp_path


def test_a_wheel_has_all_that_the_suite_reads(site: Path) -> None:
    """Every file of the packages, but the tests of the suite itself and pages to read."""
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in ("lora_lite", "properties", "strategies")
        for path in (ROOT / package).rglob("*.*")
        if path.is_file()
        and path.suffix not in (".md", ".svg")
        and not any(part.match(pattern) for part in path.parents for pattern in LEFT)
    }
    wanted = {path for path in wanted if not path.startswith("properties/instruments/")}
    found = {path.relative_to(site).as_posix() for path in site.rglob("*.*") if path.is_file()}
    assert sorted(wanted - found) == []
    assert not any(path.startswith("properties/instruments") for path in found)


def test_a_run_that_asks_for_nothing_imports_nothing(site: Path, tmp_path: Path) -> None:
    source = f"import sys\n\ndef test_it():\n    assert not {{{OURS}}} & {{*sys.modules}}\n"
    (tmp_path / "test_theirs.py").write_text(source)
    ended = pytest_at(site, tmp_path, "-p", "no:hypothesispytest", "--trace-config")
    assert "lora_lite_pytest" in ended.stdout
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_variant_is_judged_where_its_user_is(site: Path, home: Path) -> None:
    """Without a warning; and all that is written is written there."""
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    words = ("--pyargs", "properties", "--variant-module", "mine", "--audit", "audit")
    ended = pytest_at(site, home, *words, "--max-examples", "3", "-k", "gain and small_step")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "warning" not in ended.stdout.lower()
    assert {path.name for path in home.iterdir()} - {".hypothesis"} == {"mine.py", "audit"}
    written = {"index.html", "audit.md", "audit.json", "records.json"}
    assert {path.name for path in (home / "audit").iterdir()} == written
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*")} == before


def test_two_lines_make_the_claims_tests_of_a_repository(site: Path, home: Path) -> None:
    """Beside its own; what fails is kept where the run began, and the printed command replays it."""
    own = home / "my_adapters"
    own.mkdir()
    mine = (home / "mine.py").rename(own / "mine.py")
    mine.write_text(mine.read_text().replace("(1 + p", "(1 + 2 * p"))
    (own / "conftest.py").write_text('from properties import tests_of\n\npytest_plugins = tests_of("mine")\n')
    (own / "test_theirs.py").write_text("def test_theirs_is_gained():\n    pass\n")
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*")}
    words = ("--max-examples", "3", "-k", "theirs or (gain and small_step)")
    ended = pytest_at(site, home, "my_adapters", *words)
    assert "1 failed, 1 passed" in ended.stdout, ended.stdout + ended.stderr
    (kept,) = (home / "regressions").iterdir()
    assert (home / ".hypothesis" / "examples").is_dir()
    assert {path: path.stat().st_mtime_ns for path in site.rglob("*")} == before
    (replay,) = re.findall(r"^replay   pytest (my_adapters --record .*)$", ended.stdout, re.MULTILINE)
    again = pytest_at(site, home, *shlex.split(replay))
    assert kept.name in again.stdout, again.stdout + again.stderr
    assert "1 failed" in again.stdout


def test_a_checkout_serves_a_folder_outside_of_it(home: Path) -> None:
    """As pip install -e leaves it: its own conftest.py is none of that folder's."""
    (home / "conftest.py").write_text(
        'from properties import tests_of\n\npytest_plugins = tests_of("mine")\n'
    )
    ended = pytest_at(ROOT, home, "--max-examples", "3", "-k", "gain and small_step")
    assert "1 passed" in ended.stdout, ended.stdout + ended.stderr


@pytest.mark.parametrize("name", ["properties", "strategies"])
@pytest.mark.parametrize("asked", ["by a conftest.py", "by an option"])
def test_a_namesake_is_refused(site: Path, home: Path, name: str, asked: str) -> None:
    """And only where the suite is asked for."""
    (home / name).mkdir()
    (home / name / "__init__.py").touch()
    words = ["--pyargs", "properties", "--variant-module", "mine"]
    if asked == "by a conftest.py":
        words = []
        (home / "conftest.py").write_text(texts("mine")["conftest.py"])
    ended = pytest_at(site, home, *words)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR, ended.stdout
    assert f"ERROR: found {home / name}, wanted {site / name} alone by that name" in ended.stderr


def test_a_template_tells_what_is_to_be_filled_in(site: Path, tmp_path: Path) -> None:
    assert main(["vera", "--into", str(tmp_path / "own")]) == 0
    assert main(["vera", "--into", str(tmp_path / "own")]) == 2
    ended = pytest_at(site, tmp_path, "own", "-k", "vera and (written or small_step)", "-rs")
    assert "1 failed, 1 skipped" in ended.stdout, ended.stdout + ended.stderr
    open_lines = {
        (file, number)
        for file, template in texts("vera").items()
        for number, line in enumerate(template.splitlines(), 1)
        if "raise NotImplementedError" in line
    }
    told = {(file, int(n)) for file, n in re.findall(r"own/(\w+\.py):(\d+) [\w.]+: return ", ended.stdout)}
    assert told == open_lines
    assert len(told) == 4
    assert "not judged: its oracle is not written yet" in ended.stdout
    assert not (tmp_path / "regressions").exists()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("lora", "the name 'lora', which a variant of lora-lite has"),
        ("class", "the name 'class', wanted one in lower case"),
        ("my-gain", "the name 'my-gain', wanted one in lower case"),
        ("Gain", "the name 'Gain', wanted one in lower case"),
        ("json", "a module json"),
    ],
)
def test_a_name_that_is_none_or_taken_is_refused(
    name: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--into", str(tmp_path / "own")]) == 2
    assert f"found {told}" in capsys.readouterr().err
    assert not (tmp_path / "own").exists()


def test_readmes_example_is_the_template_filled_in() -> None:
    """Every line that is to stay is there, in its order; remarks are for its author."""
    example = readme_example()
    assert example.keys() == texts("gain").keys()
    for name, template in texts("gain").items():
        lines = iter(example[name].splitlines())
        fixed = re.sub(r"raise NotImplementedError\(.*?\n(?=\n|$)", "…\n", template, flags=re.DOTALL)
        stay = [line for line in fixed.splitlines() if "…" not in line and not line.startswith("    #")]
        missing = [line for line in stay if line not in lines]
        assert not missing, name
