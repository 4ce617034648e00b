"""How the cost grows with the width, the rank, the tokens of a call and the number of layers."""

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import lora_lite as ll
from properties.speed.costs import Work, fastest, weights_of
from properties.speed.layers import TRAINING, Contender, Row, Size, case_of, label, phases, rows, work
from properties.speed.models import Cost, config_and_data
from properties.speed.sampling import compare
from properties.subjects import subject
from properties.subjects.attaching import seed_inits

USUAL = Size(256, 8, 64)
# A point is one of many, and its neighbours tell whether it was disturbed.
SAMPLES = 8
AXES: dict[str, tuple[int, ...]] = {
    "d": (128, 256, 512, 1024, 2048, 4096),
    "r": (4, 8, 16, 64, 256),
    "tokens": (1, 4, 16, 64, 256, 1024, 4096),
}
LAYERS = (1, 6, 24, 168)
# Of layers TINY × TINY, on which nothing but what is done for each layer takes time.
MANY, TINY = (512, 1024, 2048, 5008), 8


@dataclass(frozen=True)
class Slope:
    """How fast the time over the plain layer's grows along an axis: 1 is proportional to it, 0 does not
    depend on it. counted: how fast the flops do, by which the formula is judged; None where there are none.
    """

    variant: str
    implementation: str
    phase: str
    axis: str
    slope: float
    counted: float | None = None


def growth(variant: str, widest: int = 4096) -> Iterator[tuple[str, Row]]:
    """Rows along each axis, the other sizes as usual; widest: no layer beyond it, for variants that take its
    SVD.
    """
    for axis, values in AXES.items():
        for value in values:
            size = replace(USUAL, **{axis: value})  # type: ignore[arg-type]  # no axis is the dtype
            if size.d <= widest:
                for row in rows(variant, size, TRAINING, SAMPLES, check=False):
                    yield axis, row
    for count in LAYERS:
        for row in stacked(variant, count):
            yield "layers", row


def stacked(variant: str, count: int) -> Iterator[Row]:
    """`count` layers one after the other, each with its own adapter."""
    case = case_of(variant, USUAL)
    base, adapted = (
        nn.Sequential(*(case.linear.build() for _ in range(count))).requires_grad_(False) for _ in range(2)
    )
    seed_inits(case.seed)
    subject.attach(adapted, case)
    trainable = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    x, upstream = work(case)
    plain, ours = phases(Contender(base), x, upstream), phases(Contender(adapted, trainable), x, upstream)
    for phase in TRAINING:
        found = compare(plain[phase], {"lora_lite": ours[phase]}, SAMPLES)["lora_lite"]
        threads = torch.get_num_threads()
        yield Row(
            label(case), "lora_lite", **vars(USUAL), threads=threads, phase=phase, **vars(found), layers=count
        )


def many_layers(variant: str) -> Iterator[Cost]:
    """Milliseconds of attach, save and load on tiny layers, by the hundred and by the thousand; and how they
    grow with their number.
    """
    config, data = config_and_data(variant)
    config = replace(config, r=None if config.r is None else TINY)
    found: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for count in MANY:
        adapted, fresh = tiny(count), partial(tiny, count)
        given = data and [data[0][:, :TINY]]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "adapter")
            works = {
                "attach": Work(partial(ll.attach, config=config, calibration_data=given), fresh),
                "save": Work(partial(ll.save, path=path), partial(_same, adapted)),
                "load": Work(partial(ll.load, path=path), fresh),
            }
            ll.attach(adapted, config, given)
            ll.save(adapted, path)
            for what, milliseconds in fastest(works).items():
                found[what].append((count, milliseconds))
                yield Cost(variant, "lora_lite", f"{what} of {count} layers", milliseconds, "ms")
    for what, points in found.items():
        yield Cost(variant, "lora_lite", f"{what} ~ layers^", slope_of(points), "")


def _same(given: nn.Module) -> nn.Module:
    return given


def tiny(count: int) -> nn.Module:
    """So many layers of TINY × TINY, sixteen to a block; of the same weights each time, or load refuses."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Sequential(*(nn.Linear(TINY, TINY) for _ in range(16))) for _ in range(count // 16))
    )
    for weight in weights_of(model):
        # What comes out of the last layer varies in as many directions as the data do.
        nn.init.orthogonal_(weight)
    return model


def slopes(found: Sequence[tuple[str, Row]]) -> list[Slope]:
    """Of log extra time over log size, by least squares over the larger half of each axis."""
    times, counts = (defaultdict[tuple[str, str, str, str], list[tuple[int, float]]](list) for _ in range(2))
    for axis, row in found:
        extra = row.milliseconds - row.base_milliseconds
        size: Any = getattr(row, axis)
        for lines, value in ((times, extra), (counts, row.flops)):
            if value > 0:
                lines[row.variant, row.implementation, row.phase, axis].append((size, value))
    return [
        Slope(*key, _slope_of_larger(points), _slope_of_larger(counts[key]) if counts[key][3:] else None)
        for key, points in times.items()
        if len(points) > 3
    ]


def _slope_of_larger(points: Sequence[tuple[float, float]]) -> float:
    return slope_of(points[len(points) // 2 - 1 :])


def slope_of(points: Sequence[tuple[float, float]]) -> float:
    """Least squares through (log x, log y)."""
    xs, ys = ([math.log(value) for value in side] for side in zip(*points, strict=True))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)
