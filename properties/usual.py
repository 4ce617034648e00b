"""python -m properties.usual: how many silent failures the tests notice that everybody writes first.

Under each mutant (the named ones; with --generic a sample of what operators make of lora_lite) an adapter
with the default settings is trained on a small model, saved, loaded and merged, and assert_close of
torch.testing compares. An exception counts as noticed.
"""

import argparse
import copy
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

import lora_lite as ll
from properties.mutation import generic, load_catalogue
from properties.mutation.mutant import Mutant

STEPS = 20


class Trained:
    """A model that an adapter learnt something on, the data, and the losses on the way."""

    def __init__(self, variant: str) -> None:
        torch.manual_seed(0)
        self.base = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 8))
        self.x, self.wanted = torch.randn(64, 16), torch.randn(64, 8)
        self.variant = ll.VARIANTS[variant]
        self.model, self.adapter = self.fresh()
        optimiser = torch.optim.AdamW(self.adapter.parameters(), lr=1e-2)
        self.losses = []
        for _ in range(STEPS):
            loss = (self.model(self.x) - self.wanted).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            self.losses.append(loss.item())

    def fresh(self) -> tuple[nn.Module, ll.Adapter]:
        """A copy of the base with a new adapter on it."""
        data = [self.x] if self.variant.needs_calibration else None
        model = copy.deepcopy(self.base)
        return model, ll.attach(model, self.variant.config_class(), calibration_data=data)

    def output(self, model: nn.Module | None = None) -> Tensor:
        with torch.no_grad():
            return (self.model if model is None else model)(self.x)  # type: ignore[no-any-return]


def smoke(variant: str) -> None:
    """It trains: the loss falls."""
    losses = Trained(variant).losses
    assert losses[-1] < losses[0]


def identity(variant: str) -> None:
    """A fresh adapter changes nothing, and detach gives the base back."""
    trained = Trained(variant)
    fresh, _ = trained.fresh()
    torch.testing.assert_close(trained.output(fresh), trained.output(trained.base))
    ll.detach(trained.model)
    torch.testing.assert_close(trained.output(), trained.output(trained.base))


def round_trip(variant: str) -> None:
    """What was saved and loaded onto another copy of the base computes the same."""
    trained = Trained(variant)
    other = copy.deepcopy(trained.base)
    with tempfile.TemporaryDirectory() as folder:
        ll.save(trained.model, Path(folder) / "adapter.safetensors")
        ll.load(other, Path(folder) / "adapter.safetensors")
    torch.testing.assert_close(trained.output(other), trained.output())


def merged(variant: str) -> None:
    """After a merge the model computes the same."""
    trained = Trained(variant)
    before = trained.output()
    ll.merge(trained.model)
    torch.testing.assert_close(trained.output(), before)


USUAL: dict[str, Callable[[str], None]] = {
    "it trains": smoke,
    "identity at init, detach": identity,
    "save and load": round_trip,
    "merge": merged,
}


def noticed(test: Callable[[str], None], mutant: Mutant) -> bool:
    """Whether the test fails, in whatever way, under the mutant on the first of its variants."""
    with mutant.injected():
        try:
            test(mutant.applies_to[0])
        except Exception:
            return True
    return False


def count(mutants: Sequence[Mutant]) -> Counter[str]:
    """How many each test notices, and how many any of them does."""
    counts: Counter[str] = Counter()
    for mutant in mutants:
        names = [name for name, test in USUAL.items() if noticed(test, mutant)]
        counts.update([*names, *(["any of these"] if names else [])])
    return counts


def main() -> None:
    parser = argparse.ArgumentParser("python -m properties.usual", description=__doc__)
    parser.add_argument(
        "--generic", type=int, metavar="N", help="a sample of so many generic mutants instead"
    )
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    mutants = [m for m in load_catalogue().values() if m.equivalent is None]
    if given.generic:
        mutants = generic.sample(generic.generated(), 0, given.generic)
    counts = count(mutants)
    for name in (*USUAL, "any of these"):
        print(f"{name:<26}{counts[name]:>5} of {len(mutants)}")


if __name__ == "__main__":
    main()
