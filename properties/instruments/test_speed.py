"""Tests of the stopwatch: what it drops, what it reports, and that it times nothing that is wrong. No test
asserts a time.
"""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import lora_lite as ll
from properties.judging.assertions import Violation
from properties.mutation.mutant import Change, Mutant
from properties.speed import sampling
from properties.speed.growth import slope_of
from properties.speed.sampling import Call, Ratio, Sample, compare, ratio_of, standing, undisturbed

pytestmark = [
    pytest.mark.instruments,
    pytest.mark.skipif(
        find_spec("peft") is None, reason="peft is not installed: pip install 'lora-lite[peers]'"
    ),
]

CALM = [Sample(1.0, 1.1 + i / 10, 1.0) for i in range(5)]


def test_samples_next_to_a_disturbed_base_sample_are_dropped() -> None:
    disturbed = [Sample(1.0, 9.0, 2.0), Sample(2.0, 9.0, 1.0)]
    assert undisturbed([*CALM, *disturbed]) == CALM
    assert ratio_of([*CALM, *disturbed]).dropped == 2


def test_a_slow_candidate_is_no_disturbance() -> None:
    """Only base samples tell: dropping slow candidates would flatter every subject."""
    slow = [*CALM, Sample(1.0, 50.0, 1.0)]
    assert undisturbed(slow) == slow


def test_median_and_quartiles() -> None:
    found = ratio_of(CALM)
    assert (found.q1, found.ratio, found.q3, found.samples, found.dropped) == pytest.approx(
        (1.2, 1.3, 1.4, 5, 0)
    )
    assert (found.milliseconds, found.base_milliseconds) == pytest.approx((1300, 1000))


def test_who_is_first_is_told_beyond_the_spread_alone() -> None:
    """Quartiles 1.2 and 1.4 beside others that lie lower, touch, or lie higher."""
    ours = ratio_of(CALM)
    apart = {by: ratio_of([replace(s, seconds=s.seconds + by) for s in CALM]) for by in (-0.3, 0.1, 0.3)}
    assert {by: standing(ours, theirs) for by, theirs in apart.items()} == {
        -0.3: "behind",
        0.1: "tie",
        0.3: "ahead",
    }


def test_a_cell_that_is_behind_is_told_with_what_it_computes(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside peft's, by flops; the cells that are not are counted alone."""
    from properties.speed.__main__ import counted

    cell = {"variant": "pissa", "d": 8, "tokens": 1, "dtype": "float32", "phase": "eval"}
    ours = [{**cell, "beside": beside, "flops": 300} for beside in ("behind", "tie")]
    theirs = {**cell, "beside": "", "flops": 200}
    assert counted([ours[0], theirs, ours[1], theirs]) == {"behind": 1, "tie": 1}
    assert capsys.readouterr().out.splitlines() == [
        "beside peft, of 2 cells: 0 ahead, 1 tie, 1 behind",
        "  behind: pissa d=8 tokens=1 float32 eval, of 1.50 × peft's operations",
    ]


def test_what_lives_at_once_is_counted() -> None:
    """Two tensors of 4 kB together, then a smaller one; views and what was there before weigh nothing."""
    from properties.speed.memory import Live, held_by

    base = torch.nn.Linear(4, 4)
    with Live(held_by(base)) as live:
        first = torch.zeros(1000)
        second = first + 1
        assert (live.now, live.most, live.largest) == (8000, 8000, 4000)
        first.view(10, 100)
        base.weight.detach()
        del first, second
        assert live.now == 0
        torch.zeros(500)
    assert (live.now, live.most) == (0, 8000)


def test_calibration_holds_one_matrix_a_layer() -> None:
    """And the directions that the layers can make use of."""
    from properties.speed.memory import Live, held_by

    layers, d = 16, 64
    base = torch.nn.Sequential(*(torch.nn.Linear(d, d) for _ in range(layers)))
    with Live(held_by(base)) as live:
        ll.attach(base, ll.EVAConfig(r=2), [torch.randn(32, d)])
    # Of the one that is decomposed at the time four: what eigh is given and gives, as rows and as columns.
    assert live.most <= (layers + 4) * 8 * d**2


def test_a_sample_is_divided_by_both_of_its_neighbours() -> None:
    """On a machine that slows down steadily the ratio stays."""
    drifting = [Sample(1 + i / 100, 2 * (1.005 + i / 100), 1.01 + i / 100) for i in range(10)]
    assert ratio_of(drifting).q1 == pytest.approx(2.0)
    assert ratio_of(drifting).q3 == pytest.approx(2.0)


def test_each_candidate_is_paired_with_the_base_in_the_same_run() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in ("base", "ours", "theirs")}
    found = compare(calls["base"], {name: calls[name] for name in ("ours", "theirs")}, samples=3)
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert turns[-9:] == ["base", "ours", "base", "theirs", "base", "ours", "base", "theirs", "base"]
    assert all(ratio.samples >= 3 for ratio in found.values())


@pytest.mark.parametrize(("seconds", "calls", "told"), [(0.9, 2, 0.9), (1.1, 1, 101.1)])
def test_what_ran_before_costs_a_candidate_nothing(
    seconds: float, calls: int, told: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call finds the caches full of somebody else's numbers; a long one fills them by the way."""
    now, cold, made = 0.0, False, 0

    def call() -> None:
        nonlocal now, cold, made
        now, cold, made = now + seconds + 100 * cold, False, made + 1

    monkeypatch.setattr(sampling, "LONG", 1.0)
    monkeypatch.setattr(sampling, "_clock", lambda: lambda: now)
    turn = sampling._turn(call)
    cold, made = True, 0
    assert turn() == pytest.approx(told)
    assert made == calls


def test_slope_of_a_power() -> None:
    assert slope_of([(x, 3 * x**2) for x in (1, 2, 4, 8)]) == pytest.approx(2.0)


def test_shards_find_what_the_quickest_of_their_seeds_does(monkeypatch: pytest.MonkeyPatch) -> None:
    from properties.speed import suite

    assert suite.least_of([1, 2, 3, 4], 1) == pytest.approx(10 / 4)
    assert suite.least_of([1, 2, 3, 4], 2) == pytest.approx((7 * 1 + 5 * 2 + 3 * 3 + 1 * 4) / 16)
    needed = [1, 2, 3, 4]
    monkeypatch.setattr(
        suite, "examples_until_found", lambda made, mutant, variant, number, most: needed[number]
    )
    lines = {most: list(suite.shards(*suite.RARE, seeds=4, most=most)) for most in (4, 5)}
    assert " 1 shards: the first finds it after at least 2.5 " in lines[4][1]
    assert " 1 shards: the first finds it after 2.5 " in lines[5][1]


def test_what_is_wrong_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    from properties.speed import layers

    wrong = Mutant(
        "for this test", "nothing", "nothing", ("lora",), (Change(ll.LoRA.adapt_output, "self.scale", "1.0"),)
    )
    monkeypatch.setattr(layers, "compare", lambda *_: pytest.fail("timed"))
    with (
        wrong.injected(),
        pytest.raises(Violation, match=r"^the output of layer 0 .* before it is timed, is not"),
    ):
        list(layers.rows("lora", layers.Size(16, 4, 3), layers.TRAINING))


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything but the clock, on layers that take no time."""
    from properties.speed import __main__, costs, growth, layers, memory, models

    def called_once(base: Call, candidates: dict[str, Call], samples: int) -> dict[str, Ratio]:
        return {name: ratio_of([Sample(1.0, 2.0 * bool(call), 1.0)] * 2) for name, call in candidates.items()}

    for timing in (layers, growth):
        monkeypatch.setattr(timing, "compare", called_once)
    monkeypatch.setattr(costs, "ROUNDS", 1)
    monkeypatch.setattr(costs, "_milliseconds", lambda run, given: float(bool(run(given) or True)))
    monkeypatch.setattr(__main__, "SIZES", (layers.Size(8, 4, 3), layers.Size(8, 4, 3, "bfloat16")))
    monkeypatch.setattr(__main__, "DECODE", (layers.Size(8, 4, 1),))
    for name, small in {"LAYERS": 1, "WIDTH": 16, "INNER": 24, "RANK": 4}.items():
        monkeypatch.setattr(models, name, small)
    monkeypatch.setattr(memory, "STEP", layers.Size(32, 4, 2))
    monkeypatch.setattr(costs, "RANK", 4)
    monkeypatch.setattr(costs, "SQUARE", 16)
    axes = {"d": (8, 12, 16, 24), "r": (2, 4, 6, 8), "tokens": (1, 2, 3, 4)}
    few = {"AXES": axes, "USUAL": layers.Size(16, 4, 3), "LAYERS": (1, 2), "MANY": (16, 64)}
    for name, value in few.items():
        monkeypatch.setattr(growth, name, value)


@pytest.mark.usefixtures("untimed")
def test_the_table_has_a_row_for_every_variant_and_size(tmp_path: Path) -> None:
    from properties.judging.peft_layers import PEFT
    from properties.speed.__main__ import main

    main(["--json", str(tmp_path / "speed.json")])
    report = json.loads((tmp_path / "speed.json").read_text())
    found = {
        (row["variant"].partition("(")[0], row["implementation"], row["dtype"], row["phase"])
        for row in report["rows"]
    }
    kinds = [
        ("float32", "forward"),
        ("float32", "forward+backward"),
        ("bfloat16", "forward"),
        ("float32", "eval"),
    ]
    wanted = {(variant, "lora_lite", *kind) for variant in ll.VARIANTS for kind in kinds}
    assert found >= wanted | {(variant, "peft", *kind) for variant in PEFT for kind in kinds}
    assert {cost["variant"] for cost in report["costs"] if cost["what"] == "attach"} == set(ll.VARIANTS)
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("untimed")
def test_growth_is_told_along_every_axis(tmp_path: Path) -> None:
    """Of one that draws its start, one that wants data, and one whose rank is of blocks."""
    from properties.speed.__main__ import main

    asked = ("lora", "eva", "antipasto")
    words = [word for variant in asked for word in ("--variant", variant)]
    main(["--growth", *words, "--json", str(tmp_path / "growth.json")])
    report = json.loads((tmp_path / "growth.json").read_text())
    found = {(row["variant"].partition("(")[0], row["axis"]) for row in report["rows"]}
    assert found == {(variant, axis) for variant in asked for axis in ("d", "r", "tokens", "layers")}
    told = {(cost["variant"], cost["what"]) for cost in report["costs"]}
    for variant in asked:
        assert told >= {(variant, f"{what} ~ layers^") for what in ("attach", "save", "load")}
    assert {slope["axis"] for slope in report["slopes"]} == {"d", "r", "tokens"}


def test_a_training_step_makes_no_matrix_of_the_weights_size(variant: str) -> None:
    """But for the gradient of one that it trains. And keeps a few numbers a token and parameter for the
    backward pass.
    """
    from properties.speed.layers import Size, cases, contenders, work
    from properties.speed.memory import memory

    size = Size(d=384, r=2, tokens=4)
    for case in cases(variant, size):
        _, adapted = contenders(case, check=False)
        own = adapted["lora_lite"]
        trained = max(p.numel() for p in own.layer.parameters() if p.requires_grad)
        kept, largest = memory(own, *work(case))
        assert largest < 4 * max(size.d**2, trained + 1)
        assert kept < 4 * 16 * size.d * (size.r + size.tokens)
