"""What two processes trained, against what one learns from the whole batch."""

from pathlib import Path
from typing import Any

import lora_lite as ll
from properties.judging.assertions import Violation, assert_all_identical, assert_holds
from properties.subjects import subject
from properties.subjects.pair import PROCESSES
from properties.subjects.processes import ENGINES, MODEL, STEPS, adapted, place, shares, step


def check_trained(folder: Path, engine: str, variant: str, reports: list[dict[str, Any]]) -> None:
    """The processes agree; the file loads in one process and holds what one learns from the whole batch, bit
    for bit.
    """
    for rank, own in enumerate(reports):
        assert_holds("error" not in own, claim=f"{engine}: process {rank} failed with\n{own.get('error')}")
        sent, needed = own["sent"], own["own"]
        found = f"{engine}: {sent} bytes of gradients travelled, the adapter's alone are {needed}"
        assert_holds(sent == needed, claim=found)
    digests = [own["digest"] for own in reports]
    found = f"{engine}: the processes' parameters differ, by process their digests are {digests}"
    assert_holds(len(set(digests)) == 1, claim=found)
    check_files(folder, engine, variant)
    model, adapter = adapted(variant)
    for number in range(STEPS):
        step(model, adapter, shares(number))
    fresh = MODEL.build()
    try:
        subject.load(fresh, place(folder, engine, variant, 0))
    except ll.LoraLiteError as error:
        raise Violation(f"{engine}: what the first process saved does not load: {error}") from error
    got = subject.tensors(fresh)
    for target, tensors in subject.tensors(model).items():
        what = f"the adapter of {target} after {STEPS} steps of two processes under {engine}"
        assert_all_identical(got[target], tensors, what=what, like="what one process learns")


def check_files(folder: Path, engine: str, variant: str) -> None:
    """Those that should have written did, and the same."""
    paths = [place(folder, engine, variant, rank) for rank in range(PROCESSES)]
    wrote = [path.exists() for path in paths]
    wanted = [rank < ENGINES[engine].writers for rank in range(PROCESSES)]
    assert_holds(wrote == wanted, claim=f"{engine}: by process, wrote a file: {wrote}, wanted {wanted}")
    files = {path.read_bytes() for path in paths if path.exists()}
    assert_holds(len(files) == 1, claim=f"{engine}: the processes wrote files that differ")
