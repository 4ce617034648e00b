"""A library's layer computes what the method's paper says, where its tensors are bound to our oracle."""

from functools import partial

import torch

from properties.judging.assertions import assert_close
from properties.judging.bound_oracle import said
from properties.judging.claim import ANY, claim
from properties.subjects.bindings import BINDINGS
from properties.subjects.library import LibraryCase
from properties.subjects.living import begin, trained_cases
from strategies import gaussian

# A single layer in one dtype throughout: where dtypes mix, each library rounds in places of its own.
single = partial(trained_cases, dtypes=("float32", "float64"), depths=(1,), tokens=((3,),))


@claim(single, stage="forward", needs=("oracle",), subject=ANY, share=0.5)
def test_output_and_gradients_are_the_oracles(case: LibraryCase) -> None:
    """At trained tensors: the output, and the gradients of the input and of every trained tensor."""
    life, x = begin(case), case.x().requires_grad_()
    upstream = gaussian(case.seed, "upstream", (3, case.linear.d_out), case.dtype)
    wanted = said(BINDINGS[case.method], life, x.detach(), upstream)
    y = life.model(x)
    assert_close(y, wanted.y, what="the output", like="the oracle's")
    trained = {n: p for n, p in life.layer(0).named_parameters() if p.requires_grad}
    leaves = {"the input": x, **trained}
    found = torch.autograd.grad(y, list(leaves.values()), upstream, allow_unused=True)
    for (name, leaf), gradient in zip(leaves.items(), found, strict=True):
        got = torch.zeros_like(leaf) if gradient is None else gradient
        assert_close(got, wanted.gradients[name], what=f"the gradient of {name}", like="the oracle's")
