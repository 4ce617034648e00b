"""Claims that failures have survived without, to be moved to the files of their stages."""

import math
import os
import stat
from dataclasses import fields
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import nn

import lora_lite as ll
from lora_lite.calibration import InputMoments
from lora_lite.checkpoint import fingerprint
from lora_lite.spec import kaiming_uniform
from properties.judging.assertions import (
    assert_holds,
    assert_identical,
    assert_refuses,
    assert_runs,
    assert_within,
)
from properties.judging.claim import fact
from properties.judging.files import adapted, base, refused, saved
from properties.subjects.lora_lite import implementation
from strategies import gaussian
from strategies.quantised import torchao

DEFAULTS: dict[str, dict[str, Any]] = {
    "lora": {"r": 8, "alpha": 16.0},
    "pissa": {"r": 8, "alpha": 16.0, "niter": None},
    "dora": {"r": 8, "alpha": 16.0},
    "delora": {"r": 8, "lambda_init": 15.0, "init": "frozen_copy"},
    "hra": {"r": 8},
    "eva": {"r": 8, "alpha": 16.0, "rho": 1.0},
}


@fact
def test_loading_a_second_adapter_leaves_the_first_one_learning() -> None:
    """Saved from another model, detached there, loaded beside one that trains; and the other way round."""
    first, second = ll.LoRAConfig(r=2, target_names=("0",)), ll.HRAConfig(r=2, target_names=("2",))
    for here, there in ((first, second), (second, first)):
        with saved(adapted(there)) as path:
            ll.attach(model := base(), here)
            flags = {name: p.requires_grad for name, p in ll.adapters_of(model)[0].named_parameters()}
            ll.load(model, path)
            now = {
                n: p.requires_grad for adapter in ll.adapters_of(model) for n, p in adapter.named_parameters()
            }
            assert_holds(
                all(flags.values()) and all(now.values()),
                claim=f"beside {here.variant}, load of {there.variant} leaves requires_grad {now}",
            )


@pytest.mark.skipif(find_spec("torchao") is None, reason="pip install '.[peers]' brings torchao")
@fact
def test_a_fingerprint_tells_the_numbers_of_torchao_apart() -> None:
    """Its codes and its scales, one at a time: W, a W with other codes, and 8 W with the same ones."""
    weight = gaussian(0, "weight", (16, 32))
    other = weight.clone()
    other[3, 5] = -other[3, 5]
    found = []
    for numbers in (weight, other, 8 * weight):
        plain = nn.Linear(32, 16, bias=False)
        plain.weight = nn.Parameter(numbers)
        found.append(fingerprint(nn.Sequential(torchao(plain)))["0.weight"])
    assert_holds(len(set(found)) == 3, claim=f"torchao: three bases have the fingerprints {found}")


@fact
def test_a_merged_weight_that_overflows_is_refused() -> None:
    """The weight alone, and the bias alone: a look at one of them misses the other."""
    for variant in ("lora", "ia3"):
        model: Any = nn.Sequential(nn.Linear(3, 3))
        if variant == "lora":
            ll.attach(model, ll.LoRAConfig(r=2, dtype=torch.float64))
            factor = 1e25
        else:
            model[0].weight.data.zero_()
            model[0].bias.data.fill_(1e30)
            ll.attach(model, ll.IA3Config(dtype=torch.float64))
            factor = 1e30
        for parameter in ll.adapters_of(model)[0].parameters():
            parameter.data.fill_(factor)
        before = {name: tensor.detach().clone() for name, tensor in model[0].named_parameters(recurse=False)}
        with assert_refuses(
            ll.BaseWeightError,
            "0: merge: the merged weight is not finite in torch.float32",
            claim=f"merge of {variant}",
        ):
            ll.merge(model)
        for name, tensor in before.items():
            assert_identical(getattr(model[0], name), tensor, claim=f"a refused merge of {variant}, {name}")


@fact
def test_merge_beside_any_hook_of_the_users_is_refused() -> None:
    """Every kind of hook beside every kind of adapter: what it does would be folded in, and happen again."""
    hooks = ("register_forward_pre_hook", "register_forward_hook")
    for config in (ll.LoRAConfig(r=2), ll.HRAConfig(r=2), ll.IA3Config(), ll.IA3FFConfig()):
        for hook in hooks:
            for first in (True, False):
                model: Any = nn.Sequential(nn.Linear(4, 4))
                if first:
                    getattr(model[0], hook)(lambda layer, *args: None)
                ll.attach(model, config)
                if not first:
                    getattr(model[0], hook)(lambda layer, *args: None)
                with assert_refuses(
                    ll.BaseWeightError,
                    "0: merge: Linear computes more",
                    claim=f"merge of {config.variant} beside {hook}",
                ):
                    ll.merge(model)


@fact
def test_the_ends_of_stated_ranges_are_accepted() -> None:
    """And what lies beyond is not, which others claim."""
    tiny, large = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).max
    ends: list[tuple[type[ll.AdapterConfig], dict[str, Any]]] = [
        (ll.LoRAConfig, {"r": 1, "alpha": tiny}),
        (ll.LoRAConfig, {"r": 1, "alpha": large}),
        (ll.LoRAConfig, {"r": 1}),
        (ll.LoRAConfig, {"r": 2**20, "alpha": 1.0}),
        (ll.LoRAConfig, {"layers": (0,)}),
        (ll.DeLoRAConfig, {"lambda_init": 0}),
        (ll.DeLoRAConfig, {"lambda_init": large}),
        (ll.EVAConfig, {"rho": 1.0}),
        (ll.EVAConfig, {"r": 2**19, "rho": 2.0}),
    ]
    for kind, options in ends:
        with assert_runs(f"{kind.__name__}({', '.join(f'{k}={v!r}' for k, v in options.items())})"):
            kind(**options)


@fact
def test_defaults_are_as_documented() -> None:
    """A default that jumps trains another adapter than yesterday's, without a word."""
    for variant, wanted in DEFAULTS.items():
        config = ll.VARIANTS[variant].config_class()
        own = {f.name: getattr(config, f.name) for f in fields(config) if f.name in wanted}
        assert_holds(repr(own) == repr(wanted), claim=f"{variant}: the defaults are {own}, wanted {wanted}")
        assert_holds(config.dtype == torch.float32, claim=f"{variant}: the default dtype is {config.dtype}")


@fact
def test_a_saved_file_has_the_mode_of_any_new_file() -> None:
    """What open() gives, by the umask; not the 0o600 of a temporary file, and no other bit."""
    for umask in (0o022, 0o027, 0o077):
        before = os.umask(umask)
        try:
            with saved() as path:
                mode, wanted = stat.S_IMODE(path.stat().st_mode), 0o666 & ~umask
            now = os.umask(umask)
        finally:
            os.umask(before)
        assert_holds(
            mode == wanted, claim=f"umask {umask:03o}: the file's mode is {mode:04o}, wanted {wanted:04o}"
        )
        assert_holds(now == umask, claim=f"save left the umask at {now:03o}, found {umask:03o}")


@fact
def test_a_random_init_reaches_the_ends_of_its_range() -> None:
    """Uniform in ±1/√fan_in: of 4,096 entries the largest is within 1 % of it, but once in 10^17 times."""
    torch.manual_seed(0)
    kaiming_uniform(tensor := torch.empty(64, 64))
    share = float(tensor.abs().max()) * math.sqrt(64)
    assert_holds(
        0.99 < share <= 1, claim=f"kaiming_uniform: the largest of 4,096 entries is {share:.4f} / √fan_in"
    )
    lopsided = abs(float(tensor.mean())) * math.sqrt(3 * 64 * 4096)
    assert_holds(lopsided < 5, claim=f"kaiming_uniform: the mean is {lopsided:.1f} standard errors from 0")


@fact
def test_figures_in_messages_are_right() -> None:
    """How many, of how many, how many more."""
    ll.attach(model := base(), ll.LoRAConfig(r=2, target_names=("0",)))
    with assert_refuses(
        ll.TargetError, r"^0: 1 of 2 target layers already carry", claim="attach over one of two"
    ):
        ll.attach(model, ll.LoRAConfig(r=2, target_names=("0", "2")))
    for layers, more in (
        (1, ""),
        (5, ""),
        (6, "  … 1 more of 6 parameters.\n"),
        (9, "  … 4 more of 9 parameters.\n"),
    ):
        ll.attach(wide := stack(layers), ll.LoRAConfig(r=1))
        with saved(wide) as path:
            told = (
                rf"(?s)made for another base\.\n(  \d\.weight: found [^\n]*\n){{{min(layers, 5)}}}{more}Load"
            )
            refused(stack(layers), path, ll.BaseMismatchError, told, f"{layers} other layers")
            ll.detach(wide)
            wide[0].weight.data.neg_()
            told = r"(?s)another base\.\n  0\.weight: found [^\n]*\nLoad"
            refused(wide, path, ll.BaseMismatchError, told, f"one other layer of {layers}")


def stack(layers: int) -> Any:
    """So many layers with other numbers each time."""
    return nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(layers)))


@fact
def test_moments_of_unequal_batches_are_those_of_all_tokens() -> None:
    """Batches of other lengths and far apart: what joins them is most of the answer."""
    torch.manual_seed(0)
    batches = [torch.randn(n, 3, dtype=torch.float64) + mean for n, mean in ((1, 0.0), (5, 10.0), (2, -30.0))]
    moments, seen = InputMoments(3), torch.empty(0, 3, dtype=torch.float64)
    for batch in batches:
        moments.update(batch)
        seen = torch.cat([seen, batch])
        off = seen - seen.mean(0)
        wanted = off.mT @ off
        bound = 100 * torch.finfo(torch.float64).eps * (seen.mT @ seen).abs().max()
        assert moments.scatter is not None
        what = f"moments of {len(seen)} tokens"
        assert_within(moments.scatter, wanted, bound, claim=what)
        largest = torch.linalg.eigvalsh(wanted).max()
        assert_within(moments.principal()[0][0], largest, bound, claim=f"the largest of the {what}")


@fact
def test_on_a_line_first_gradients_of_delora_are_as_declared() -> None:
    """With one output a direction of B cannot turn, with one input none of A: exactly zero."""
    for d_in, d_out in ((3, 1), (1, 3), (3, 3)):
        torch.manual_seed(0)
        model: Any = nn.Sequential(nn.Linear(d_in, d_out))
        ll.attach(model, ll.DeLoRAConfig(r=2))
        model(torch.randn(4, d_in)).square().sum().backward()
        for name, declared in implementation.first_gradients(model)["0"].items():
            found = "nonzero" if implementation.tensors(model)["0"][name].grad.any() else "zero"  # type: ignore[union-attr]
            told = f"delora on {d_in} → {d_out}: the first gradient of {name} is {found}, declared {declared}"
            assert_holds(found == declared, claim=told)
