"""One audit of the records of many runs, each of a part of the methods, a seed or a library."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from os import getpid
from pathlib import Path
from typing import NamedTuple

import lora_lite as ll
from properties.audit import records, render, subjects
from properties.audit.evidence import Evidence
from properties.audit.judge import judge
from properties.audit.methods import kept
from properties.audit.provenance import NOT_INSTALLED, TESTS, fingerprint, version_of
from properties.audit.records import Records, RecordsError
from properties.audit.report import BUGGY, Provenance, Shard
from properties.audit.settle import ORDER, united
from properties.audit.terminal import summary
from properties.judging.outcome import BROKEN, CRASHED, DECLARED, HELD, NOT_APPLICABLE, NOT_JUDGED, Outcome
from properties.mutation.matrix import Row
from properties.subjects.living import library, methods_of, part_of

# Of several runs: what one has judged, another needs not have.
ACROSS = (CRASHED, BROKEN, DECLARED, HELD, NOT_JUDGED, NOT_APPLICABLE)


class Merged(NamedTuple):
    """The files, what came of the methods, what should be there and is not; buggy: of lora_lite's own."""

    written: list[Path]
    summary: str
    lost: list[str]
    buggy: bool


def merge(folders: Sequence[Path], into: Path, wanted: Sequence[str] = ()) -> Merged:
    """Write the audit of all of them to `into`; wanted: libraries that should be among them.

    Raises RecordsError, and writes nothing, where a folder is no audit or is given twice, where versions
    contradict each other, and where `into` has files.
    """
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise RecordsError(f"{into}: found something there, wanted a folder that is empty or not there yet.")
    found = {folder: records.read(folder) for folder in folders}
    _check_once(found)
    shards = [shard for one in found.values() for shard in one.shards]
    _check_alike(found)
    _check_known(shards)
    made = Records(shards, unite([one.evidence for one in found.values()]))
    lost = lost_of(shards, wanted)
    asked = dict.fromkeys(method for shard in shards for method in shard.asked)
    asked |= dict.fromkeys(m for name in wanted if name not in _judged(shards) for m in methods_of(name))
    with in_one_step(into) as folder:
        pages = _pages(made, [*asked], lost, folder)
    return pages._replace(written=[into / path.name for path in pages.written])


def _pages(made: Records, asked: list[str], lost: list[str], folder: Path) -> Merged:
    """What a run of all of it would have written."""
    found, whole = made.evidence, provenance_of(made.shards)
    written, told, buggy = [], [], False
    if asked:
        field = subjects.field_of(
            found.outcomes, asked, command=whole.command, seconds=whole.seconds, absent="no run judged it"
        )
        written += subjects.write(replace(field, shards=made.shards, lost=lost), folder)
        written += kept.write(field, folder)
        told.append(subjects.summary(field))
    judged = {name for shard in made.shards for name in shard.variants}
    if own := [name for name in ll.VARIANTS if name in judged]:
        found.narrowed = whole.narrowed
        report = replace(judge(found, None, whole, own), shards=made.shards, lost=lost)
        written += render.write(report, folder)
        told.append(summary(report))
        buggy = report.verdict == BUGGY
    return Merged([*written, records.write(made, folder)], "\n".join(told), lost, buggy)


def unite(runs: Sequence[Evidence]) -> Evidence:
    """Outcomes of one claim and method become one, with all examples; what the suite left is side by side."""
    outcomes: dict[tuple[str, str | None], list[Outcome]] = {}
    rows: dict[str, Row] = {}
    made = Evidence()
    for run in runs:
        for key, own in _by_claim(run.outcomes).items():
            outcomes.setdefault(key, []).append(united(own, ORDER))
        for row in run.rows:
            rows.setdefault(row.mutant, Row(row.mutant)).cells += row.cells
        made.failures += run.failures
        made.skipped |= run.skipped
        for kind, left in run.records.items():
            made.records.setdefault(kind, []).extend(left)
    # A replay alone judges nothing: beside a run that drew, it adds nothing.
    judged = {k: [o for o in own if o.failed or not o.replayed] or own for k, own in outcomes.items()}
    made.outcomes = [united(own, ACROSS) for own in judged.values()]
    made.rows = [*rows.values()]
    return made


def _by_claim(outcomes: Iterable[Outcome]) -> dict[tuple[str, str | None], list[Outcome]]:
    found: dict[tuple[str, str | None], list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault((outcome.claim, outcome.method), []).append(outcome)
    return found


def _check_once(found: dict[Path, Records]) -> None:
    """No run twice, whether copied, merged before or repeated: its examples would count double."""
    seen: dict[object, Path] = {}
    for folder, held in found.items():
        for shard in held.shards:
            how = shard.provenance
            cases = (how.seed, how.profile, how.examples, how.narrowed, *shard.judged, *shard.variants)
            keys = {"this run": shard.run} | ({"its seed and methods": cases} if how.repeats else {})
            for what, key in keys.items():
                if key in seen:
                    raise RecordsError(
                        f"{folder}: found {what} in {seen[key]} too ({how.command}, seed: {how.seed}); wanted"
                        " each once. Leave one of the two out."
                    )
                seen[key] = folder


def _check_alike(found: dict[Path, Records]) -> None:
    """What is told of all of them in one table was measured on the same code, which is also what is here."""
    seen: dict[str, tuple[str, str]] = {}
    for folder, held in found.items():
        for shard in held.shards:
            for what, value in _code_of(shard).items():
                known, where = seen.setdefault(what, (value, str(folder)))
                if value != known:
                    raise RecordsError(
                        f"{folder}: found {what} {value}, and {known} in {where}. One table tells of one"
                        " version: merge those that have the same, each into an audit of its own."
                    )
    packages = {library(name).package for held in found.values() for s in held.shards for name in s.subjects}
    here = {"the suite": fingerprint(TESTS), **{package: version_of(package) for package in packages}}
    for what, value in here.items():
        known, where = seen.get(what, (value, ""))
        if value != known:
            raise RecordsError(
                f"{where}: found {what} {known}, and {value} here, where methods and claims are looked up."
                " Merge where the same is installed."
            )


def _check_known(shards: Sequence[Shard]) -> None:
    if unknown := [name for shard in shards for name in shard.variants if name not in ll.VARIANTS]:
        raise RecordsError(
            f"found the variant {unknown[0]}, which is not known here: name the module that registers it with"
            " --variant-module."
        )


def _code_of(shard: Shard) -> dict[str, str]:
    """What is not installed contradicts no version: what wanted it was not judged there, which is told."""
    how = shard.provenance
    versions = {name: value for name, value in how.versions.items() if value != NOT_INSTALLED}
    mutant = how.injected or "none"
    return {**versions, "lora_lite": how.source, "the suite": shard.suite, "the mutant": mutant}


def lost_of(shards: Sequence[Shard], wanted: Sequence[str]) -> list[str]:
    """Parts of which others of the same seed are there, and libraries that nobody judged."""
    found: dict[tuple[str, str, int], set[int]] = {}
    for shard in shards:
        part, of = part_of(shard.part or "1/1")
        found.setdefault((" and ".join(shard.subjects), shard.provenance.seed, of), set()).add(part)
    lost = [
        f"part {part}/{of} of {subjects}, seed {seed}"
        for (subjects, seed, of), parts in found.items()
        for part in range(1, of + 1)
        if part not in parts
    ]
    return [*lost, *(f"all of {name}" for name in wanted if name not in _judged(shards))]


def _judged(shards: Sequence[Shard]) -> set[str]:
    """The libraries that any run was about."""
    own = {"lora_lite" for shard in shards if shard.variants}
    return own | {name for shard in shards for name in shard.subjects}


def provenance_of(shards: Sequence[Shard]) -> Provenance:
    """Of all of them as if one run had judged it all."""
    runs = [shard.provenance for shard in shards]
    versions: dict[str, str] = {}
    for run in runs:
        versions |= {n: v for n, v in run.versions.items() if v != NOT_INSTALLED or n not in versions}
    tests: Counter[str] = Counter()
    for run in runs:
        tests.update(run.tests)
    narrowed = "" if any(not run.narrowed for run in runs) else "; ".join(_each(run.narrowed for run in runs))
    return replace(
        runs[0],
        command="; ".join(_each(run.command for run in runs)),
        versions=versions,
        profile=", ".join(_each(run.profile for run in runs)),
        examples=max(run.examples for run in runs),
        seed=", ".join(_each(run.seed for run in runs)),
        seconds=round(sum(run.seconds for run in runs), 1),
        tests=dict(tests),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        narrowed=narrowed,
    )


def _each(texts: Iterable[str]) -> list[str]:
    return [*dict.fromkeys(texts)]


@contextmanager
def in_one_step(into: Path) -> Iterator[Path]:
    """A folder to write to beside `into`, which takes its place once all is written."""
    into.parent.mkdir(parents=True, exist_ok=True)
    beside = into.with_name(f".{into.name}.{getpid()}.tmp")
    beside.mkdir()
    try:
        yield beside
        beside.replace(into)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
