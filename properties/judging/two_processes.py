"""Two processes have trained as one does: what they report and the files they wrote."""

from pathlib import Path
from typing import Any

import lora_lite as ll
from properties.judging.assertions import Violation, assert_all_identical, assert_holds
from properties.subjects import subject
from properties.subjects.processes import ENGINES, MODEL, PROCESSES, STEPS, adapted, place, shares, step


def check_trained(folder: Path, engine: str, variant: str, found: list[dict[str, Any]]) -> None:
    """The processes agree; the file loads in one process and holds what one learns from the whole batch, bit
    for bit.
    """
    for rank, own in enumerate(found):
        assert_holds("error" not in own, claim=f"{engine}: process {rank} failed with\n{own.get('error')}")
        sent, wanted = own["sent"], own["own"]
        assert_holds(
            sent == wanted, claim=f"{engine}: {sent} bytes of gradients travelled, the adapter's are {wanted}"
        )
    digests = {own["digest"] for own in found}
    assert_holds(len(digests) == 1, claim=f"{engine}: the processes' parameters have the digests {digests}")
    check_files(folder, engine, variant)
    model, adapter = adapted(variant)
    for number in range(STEPS):
        step(model, adapter, shares(number))
    fresh = MODEL.build()
    try:
        subject.load(fresh, place(folder, engine, variant, 0))
    except ll.LoraLiteError as error:
        raise Violation(f"{engine}: what the first process saved does not load: {error}") from error
    wanted, got = subject.tensors(model), subject.tensors(fresh)
    for target, tensors in wanted.items():
        assert_all_identical(
            got[target], tensors, what=f"{engine}: {target} after {STEPS} steps in two processes"
        )


def check_files(folder: Path, engine: str, variant: str) -> None:
    """Those that should have written did, and the same."""
    paths = [place(folder, engine, variant, rank) for rank in range(PROCESSES)]
    wrote = [path.exists() for path in paths]
    wanted = [rank < ENGINES[engine].writers for rank in range(PROCESSES)]
    assert_holds(wrote == wanted, claim=f"{engine}: by process, wrote a file: {wrote}, wanted {wanted}")
    files = {path.read_bytes() for path in paths if path.exists()}
    assert_holds(len(files) == 1, claim=f"{engine}: the processes wrote files that differ")
