"""One variant on one model: the adapter at init, and the training runs that several claims look at."""

import copy
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, cast

import torch
from torch import Tensor, nn

import lora_lite as ll
from lora_lite.linear import linear_shape
from properties.probe.alike import least_of_the_formula
from properties.probe.data import shuffles
from properties.probe.measures import Run
from properties.probe.models import Bench
from properties.probe.training import (
    Loss,
    Values,
    disconnected,
    fit,
    initial,
    layer_inputs,
    random_step,
    relative,
    restore,
)
from properties.probe.training import values as values_of
from properties.subjects.attaching import AnyCase, Attached, attach
from properties.subjects.pretrained import options_at_rank_8
from strategies.options import Options, accepts

# Of what is usual for a tensor's entries; the rate falls to zero over the run.
# On tiny-qwen3 all nine learn, and learn in general, at 0.01, 0.03, 0.1 and 0.3 alike (measured).
PACE = 0.03
DRAWS = 100
PERCENTILE = 0.99


@dataclass(frozen=True)
class ProbeCase:
    """What attach is told: the variant at rank 8 on a bench, other options on top."""

    variant: str
    bench: Bench
    options: Options
    seed: int = 0
    trained: bool = False

    def build(self) -> nn.Module:
        """A copy of the model that is the caller's own."""
        return copy.deepcopy(self.bench.base)

    def calibration(self) -> list[dict[str, Tensor]]:
        """The head's texts; variants that start from no data do not look at them."""
        return self.bench.calibration()


@dataclass(frozen=True)
class Drop:
    """By how much the mean loss fell, on the training texts and on the held-out ones."""

    trained: float
    held_out: float


@dataclass(eq=False)
class Trial:
    """A variant on a bench.

    steps: of each training run; seed: of the inits, the shuffled targets and the random steps.
    """

    bench: Bench
    variant: str
    steps: int = 10
    seed: int = 0

    def attach(self, *, layers: tuple[int, ...] | None = None, **options: Any) -> Attached:
        """A fresh adapter on the bench's blocks, or on `layers`."""
        return attach(cast(AnyCase, self.case(**options)), layers=layers or self.bench.layers)

    def takes(self, **options: Any) -> bool:
        """Whether the variant takes each of the bench's adapted layers with these options."""
        chosen = tuple({**dict(options_at_rank_8(self.variant)), **options}.items())
        layers = (linear_shape(self.model.get_submodule(target)) for target in self.made.initial)
        return all(accepts(self.variant, shape.d_in, shape.d_out, chosen) for shape in layers)

    def case(self, **options: Any) -> ProbeCase:
        return ProbeCase(
            self.variant, self.bench, (*options_at_rank_8(self.variant), *options.items()), self.seed
        )

    @cached_property
    def made(self) -> Attached:
        """Shared by the claims, each of which starts with restore()."""
        return self.attach()

    @cached_property
    def refused(self) -> str | None:
        """What attach says where the variant does not take every layer of the bench at its defaults."""
        try:
            _ = self.made
        except ll.ConfigError as error:
            return str(error)
        return None

    @property
    def model(self) -> nn.Module:
        return self.made.model

    @property
    def classes(self) -> int:
        """Into which the texts fall."""
        return len(self.bench.prototypes)

    @property
    def loss(self) -> Loss:
        """Of each training text."""
        return lambda model: self.bench.losses(model, self.bench.training)

    @property
    def run(self) -> Run:
        """The output that effects are seen in."""
        return lambda model: self.bench.features(model, self.bench.held_out)

    def losses(self) -> Drop:
        """The model's mean losses now."""
        with torch.no_grad():
            return Drop(*self._losses(self.model).tolist())

    def _losses(self, model: nn.Module) -> Tensor:
        """(2,): the mean on the training texts, and on the held-out ones."""
        now, cut = self.bench.losses(model, self.bench.read), self.bench.training.stop
        return torch.stack([now[:cut].mean(), now[cut:].mean()])

    def drop(self) -> Drop:
        """From init until now."""
        now = self.losses()
        return Drop(self.at_init.trained - now.trained, self.at_init.held_out - now.held_out)

    @cached_property
    def at_init(self) -> Drop:
        restore(self.model, initial(self.made))
        return self.losses()

    def _train(self, loss: Loss) -> Drop:
        restore(self.model, initial(self.made))
        fit(self.model, loss, relative(self.model, PACE), self.steps)
        return self.drop()

    @cached_property
    def learnt(self) -> tuple[Drop, Values]:
        """Training on the true targets, and the parameters after it."""
        _ = self.at_init
        return self._train(self.loss), values_of(self.model)

    @cached_property
    def shuffled(self) -> Drop:
        """Training on targets that say nothing: the mean of the runs on shuffles()."""
        _ = self.at_init
        texts = self.bench.training
        runs = [
            self._train(lambda model, drawn=drawn: self.bench.losses(model, texts, drawn))  # type: ignore[misc]
            for drawn in shuffles(self.bench.labels[texts], self.classes, self.seed)
        ]
        return Drop(fmean(run.trained for run in runs), fmean(run.held_out for run in runs))

    @cached_property
    def control(self) -> Drop:
        """Training with the adapter's output dropped."""
        _ = self.at_init
        with disconnected(self.model):
            return self._train(self.loss)

    @cached_property
    def chance(self) -> Drop:
        """The 99th percentiles of what random steps from init achieve, each tensor as far as training took
        it.
        """
        _, end = self.learnt
        start = initial(self.made)
        drops = []
        for draw in range(DRAWS):
            random_step(self.model, start, end, self.seed * DRAWS + draw)
            drop = self.drop()
            drops.append((drop.trained, drop.held_out))
        trained, held_out = torch.tensor(drops).quantile(PERCENTILE, dim=0).tolist()
        return Drop(trained, held_out)

    @cached_property
    def noise(self) -> Drop:
        """What learning must pass: chance, and on unseen text the start where even the best steps do harm.

        Of a few numbers, say a gain for each layer, the best of a hundred random steps is as good a search
        as training is. Where what was learnt does not pass it, no more is wanted than the formula reaches.
        """
        drop, _ = self.learnt
        trained, held_out = self.chance.trained, max(0.0, self.chance.held_out)
        if drop.trained > trained and drop.held_out > held_out:
            return Drop(trained, held_out)
        formula = least_of_the_formula(self.made, self.loss, self._losses, PACE, self.steps).tolist()
        return Drop(min(trained, formula[0]), min(held_out, formula[1]))

    def inputs(self, texts: slice) -> dict[str, Tensor]:
        """What each target is given by the base for these texts, (tokens, d_in)."""
        restore(self.model, initial(self.made))
        with disconnected(self.model):
            return layer_inputs(
                self.model, self.made.initial, lambda model: self.bench.features(model, texts)
            )
