"""An init that looks at data finds in it what its paper says, where the covariance of the data is known."""

import torch
from hypothesis.strategies import SearchStrategy

from properties.judging.assertions import assert_within
from properties.judging.claim import ANY, claim
from properties.judging.outcome import NotJudgedError
from properties.judging.own_bound import own_output
from properties.judging.tolerance import claim_bound
from properties.oracles.data_driven import LAWS
from properties.subjects.attaching import seed_inits
from properties.subjects.bindings import binding_of
from properties.subjects.bindings.binding import tensors_of
from properties.subjects.library import LibraryCase, Life
from properties.subjects.living import library, library_cases, output
from strategies.layers import calibration_batches
from strategies.models import FULL_RANK


def fed(method: str) -> SearchStrategy[LibraryCase]:
    """Weights and data whose singular values lie apart, or are as many as wanted."""
    return library_cases(method, dtypes=("float32",), depths=(1,), weights=FULL_RANK[:2], widths=(4, 6, 8))


def begin_fed(case: LibraryCase) -> tuple[Life, torch.Tensor]:
    """The adapter, and the inputs (tokens, d_in) that it was given, all in one batch."""
    x = torch.cat(calibration_batches(case.seed, case.linear.d_in, case.dtype))
    seed_inits(case.seed)
    life = library(case.library).attach_with(case.build(), case, [x])
    life.ready()
    return life, x


@claim(fed, stage="init", needs=("data",), subject=ANY, share=0.2)
def test_an_init_from_data_keeps_its_laws(case: LibraryCase) -> None:
    """EVA's directions and CorDA's terms: the right ones, of the covariance of what the layer was given.

    LoftQ's of what the weight loses in few bits.
    """
    binding = binding_of(case.method)
    start = case.name.partition("=")[2]
    if binding is None or start not in LAWS:
        raise NotJudgedError(f"no laws of the start {start!r} in oracles/data_driven")
    life, x = begin_fed(case)
    settings = library(case.library).settings(life, case)
    options = {**binding.options(settings), **library(case.library).told(settings)}
    now = {name: t.detach().double() for name, t in binding.symbols(tensors_of(life)).items()}
    W = case.linear.build().weight.detach().double()
    now["Q"] = life.base()["0.weight"].double()
    for law in LAWS[start](W, now, options, x.double()):
        error = claim_bound(law.magnitude, case.dtype)
        assert_within(law.got, law.wanted, error, what=f"the init law {law.name}", like="kept")


@claim(fed, stage="init", needs=("data",), subject=ANY, share=0.2)
def test_an_init_from_data_changes_nothing(case: LibraryCase) -> None:
    """What was put into the adapter was taken off the weight."""
    if not library(case.library).identity(case):
        raise NotJudgedError(f"{case.method} is not said to start as the base")
    life, x = begin_fed(case)
    wanted, error = output(case.build(), x), own_output(life.model, x).error
    what = "the output after an init from data"
    assert_within(output(life.model, x), wanted, error, what=what, like="the base's", dtype=case.dtype)
