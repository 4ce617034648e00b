"""Files: what does not belong is refused with the reason, the model stays as before, and saving is atomic."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import Violation, assert_holds, assert_identical, assert_runs
from properties.judging.claim import claim
from properties.judging.files import Damage, adapted, base, config_of, refused, rewrite, saved
from properties.judging.fixed_models import NO_HOOK, blocked
from strategies.options import build_config, own_options


def flip_a_sign(weight: Tensor) -> None:
    weight[0, 0] = -weight[0, 0]


def swap_two_rows(weight: Tensor) -> None:
    weight[[0, 1]] = weight[[1, 0]]


def change_one_entry(weight: Tensor) -> None:
    weight[-1, -1] = torch.nextafter(weight[-1, -1], weight.new_tensor(torch.inf))


@claim(stage="load")
def test_another_base_is_refused() -> None:
    """One sign, two rows, the last bit of one entry; in the last layer. check_base=False takes it."""
    for change in (flip_a_sign, swap_two_rows, change_one_entry):
        with saved() as path, torch.no_grad():
            other = base()
            change(other[2].weight)  # type: ignore[arg-type]
            match = r"2\.weight: found float32 \(6, 5\) \w+, the file says float32 \(6, 5\) \w+"
            refused(other, path, ll.BaseMismatchError, match, f"a base changed by {change.__name__}")
            ll.load(other, path, check_base=False)


@claim(stage="load")
def test_a_base_of_another_dtype_or_width_is_told_by_it() -> None:
    """The message gives both."""
    wide = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 7, bias=False))
    for other, found in ((base().bfloat16(), r"bfloat16 \(6, 5\)"), (wide, r"float32 \(7, 5\)")):
        with saved() as path:
            match = rf"2\.weight: found {found} \w+, the file says float32 \(6, 5\) \w+"
            refused(other, path, ll.BaseMismatchError, match, f"a base that is {found}")


@claim(stage="load")
def test_a_base_trained_on_is_refused() -> None:
    """A base parameter that was trained beside the adapter would be lost: another base, whatever layer it is
    in.
    """
    with saved() as path:
        model = base()
        model.append(nn.LayerNorm(6))
        refused(
            model,
            path,
            ll.BaseMismatchError,
            r"3\.weight: found float32 \(6,\) \w+, the file says no such",
            "a base with more in it",
        )


@claim(stage="load")
def test_another_architecture_is_refused() -> None:
    """The message names the layer and what does not fit, also where the base is not compared."""
    wide = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 7, bias=False))
    with saved() as path:
        match = r"2: tensor B has shape \(6, 2\), wanted \(7, 2\)"
        refused(wide, path, ll.CheckpointError, match, "a wider layer", check_base=False)
        found = "0: found a GELU"
        refused(
            nn.Sequential(nn.GELU()),
            path,
            ll.CheckpointError,
            found,
            "a layer of another kind",
            check_base=False,
        )


def ia3_entry() -> dict[str, Any]:
    config = ll.IA3Config(target_names=("0",)).to_json()
    return {"variant": "ia3", "config": config, "targets": {"0": {"r": None, "alpha": None}}}


DAMAGE: dict[str, tuple[Damage, str]] = {
    "a tensor is missing": (lambda t, h: t.pop("0.A"), "0: tensor A is missing"),
    "a tensor too many": (lambda t, h: t.update({"0.C": torch.zeros(1)}), r"unknown tensors \['0.C'\]"),
    "a tensor of another shape": (
        lambda t, h: t.update({"0.A": torch.zeros(3, 6)}),
        r"0: tensor A has shape \(3, 6\)",
    ),
    "a transposed tensor": (
        lambda t, h: t.update({"0.A": t["0.A"].mT.contiguous()}),
        r"0: tensor A has shape \(6, 2\)",
    ),
    "a tensor of integers": (
        lambda t, h: t.update({"0.A": torch.zeros(2, 6, dtype=torch.int8)}),
        "wanted floating point",
    ),
    "another variant": (lambda t, h: h["adapters"][0].update(variant="hra"), "damaged header"),
    "another variant with the same config": (
        lambda t, h: h["adapters"][0].update(variant="dora"),
        "0: tensor m is missing",
    ),
    "an unknown variant": (lambda t, h: h["adapters"][0].update(variant="nola"), "unknown variant 'nola'"),
    "another format version": (lambda t, h: h.update(format=99), "format 99"),
    "NaN in the config": (lambda t, h: config_of(h).update(alpha=float("nan")), "NaN is no number"),
    "an option dropped": (lambda t, h: config_of(h).pop("alpha"), r"missing fields \['alpha'\]"),
    "an option unheard of": (lambda t, h: config_of(h).update(beta=1), r"unknown fields \['beta'\]"),
    "an impossible option": (lambda t, h: config_of(h).update(r=-1), "r: found -1"),
    "an unknown dtype": (lambda t, h: config_of(h).update(dtype="int4"), "dtype: found 'int4'"),
    "targets of the wrong type": (lambda t, h: h["adapters"][0].update(targets=["0"]), "targets should be"),
    "no such layer": (
        lambda t, h: h["adapters"][0]["targets"].update({"9": {"r": 2, "alpha": 16.0}}),
        "9: found no such layer",
    ),
    "a layer in two adapters": (
        lambda t, h: (h["adapters"].append(ia3_entry()), t.update({"0.offset": torch.zeros(5)})),
        "0, 0: the file has more than one adapter for the same layer",
    ),
    "tensors of another dtype": (
        lambda t, h: t.update({"0.A": t["0.A"].half()}),
        "tensor A is torch.float16, wanted",
    ),
    "a rank beyond all bounds": (lambda t, h: config_of(h).update(r=10**30), "r: found 1000"),
    "an alpha beyond all bounds": (lambda t, h: config_of(h).update(alpha=10**400), "alpha: found 1000"),
    "an alpha beyond float32": (
        lambda t, h: config_of(h).update(alpha=1e39),
        "wanted alpha / r within the range of torch.fl",
    ),
    "a pattern beyond all bounds": (
        lambda t, h: config_of(h).update(target_names=["a{99999999999999999999}"]),
        "no regular",
    ),
    "a pattern that Python warns of": (lambda t, h: config_of(h).update(target_names=["[[a]"]), "no regular"),
    "adapters of the wrong type": (lambda t, h: h.update(adapters=3), "adapters should be"),
    "no base": (lambda t, h: h.pop("base"), "the header should be"),
}


@claim(stage="load")
def test_a_damaged_file_is_refused() -> None:
    """Each kind of damage is refused for its own reason."""
    for what, (change, match) in DAMAGE.items():
        with saved() as path, warnings.catch_warnings():
            warnings.simplefilter("error")
            rewrite(path, change)
            refused(base(), path, ll.CheckpointError, match, what)


@claim(stage="load")
def test_a_truncated_file_is_refused() -> None:
    """At any length short of the whole."""
    with saved() as path:
        whole = path.read_bytes()
        for length in {0, 1, 7, 8, 9, len(whole) // 3, len(whole) // 2, len(whole) - 1}:
            path.write_bytes(whole[:length])
            refused(
                base(),
                path,
                ll.CheckpointError,
                "not a whole safetensors file",
                f"{length} of {len(whole)} bytes",
            )


@claim(stage="load")
def test_a_foreign_file_is_refused() -> None:
    """A safetensors file of somebody else's, and no file at all."""
    with saved() as path:
        save_file({"x": torch.zeros(1)}, path)
        refused(base(), path, ll.CheckpointError, "without a 'lora_lite' header", "a foreign file")
        refused(base(), path.with_name("b"), FileNotFoundError, "no such file", "a missing file")
        refused(base(), path.parent, FileNotFoundError, "no such file", "a folder")


@claim(stage="load")
def test_load_onto_an_adapter_is_refused() -> None:
    """A layer carries one adapter."""
    model = adapted()
    with saved(model) as path:
        refused(
            model,
            path,
            ll.TargetError,
            "already carry an adapter",
            "a model that carries the adapter already",
        )


@claim(stage="save")
def test_a_crash_while_saving_leaves_the_old_file() -> None:
    """And nothing else in its folder."""

    def crash(tensors: Any, place: str, metadata: Any) -> None:
        Path(place).write_bytes(b"half")
        raise KeyboardInterrupt

    with saved() as path, pytest.MonkeyPatch.context() as patch:
        old = path.read_bytes()
        patch.setattr("lora_lite.checkpoint.save_file", crash)
        with pytest.raises(KeyboardInterrupt):
            ll.save(adapted(ll.IA3Config()), path)
        assert_holds(path.read_bytes() == old, claim="a crash while saving changed the old file")
        assert_holds(list(path.parent.iterdir()) == [path], claim="a crash while saving left a file behind")


@claim(stage="save")
def test_several_adapters_travel_together() -> None:
    """ia3 on one layer and ia3_ff on another, in one file; each keeps its config and its targets."""
    model = base()
    ll.attach(model, ll.IA3Config(target_names=("0",)))
    ll.attach(model, ll.IA3FFConfig(target_names=("2",)))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.fill_(0.5)
    with saved(model) as path:
        handles = ll.load(fresh := base(), path)
    wanted = [h.config for h in ll.adapters_of(model)]
    assert_holds([h.config for h in handles] == wanted, claim="two adapters come back with their configs")
    assert_holds(
        [h.targets for h in handles] == [("0",), ("2",)], claim="two adapters come back on their layers"
    )
    x = torch.randn(4, 6)
    assert_identical(fresh(x), model(x), what="the output of two adapters after load")


@claim(stage="save")
def test_a_file_that_is_loaded_and_saved_again_is_the_same() -> None:
    """Byte for byte; eva makes a float of each layer's alpha, where the config has a whole number."""
    model = base()
    ll.attach(model, ll.EVAConfig(r=2, alpha=16, target_names=("0",)), [torch.randn(20, 6)])
    with saved(model) as path:
        ll.load(fresh := base(), path)
        with saved(fresh) as again:
            assert_holds(
                again.read_bytes() == path.read_bytes(),
                claim="the file of a loaded adapter is the one it came from",
            )


@claim(stage="load")
def test_a_load_that_fails_half_way_leaves_the_model_as_before() -> None:
    """The first adapter of two is in the file and on the model already when the second one's layer takes no
    hook.
    """
    model = base()
    for name in ("0", "2"):
        ll.attach(model, ll.LoRAConfig(r=2, target_names=(name,)))
    with saved(model) as path, blocked((fresh := base())[2]):
        refused(fresh, path, *NO_HOOK, "load onto a layer that takes no hook")


@claim(stage="load")
def test_what_was_loaded_needs_its_file_no_longer() -> None:
    """Another one may be written over it, in place."""
    with saved() as path:
        (handle,) = ll.load(model := base(), path)
        wanted = model(torch.ones(1, 6)).detach()
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
        assert_identical(
            model(torch.ones(1, 6)).detach(),
            wanted,
            what=f"{handle} after its file was overwritten: the output",
        )


@claim(stage="load")
def test_load_casts_where_asked() -> None:
    """Only then; and the handle's config says so."""
    with saved() as path:
        (handle,) = ll.load(base(), path, dtype=torch.bfloat16)
        assert_holds(
            {p.dtype for p in handle.parameters()} == {torch.bfloat16},
            claim="load casts to the dtype asked for",
        )
        assert_holds(
            handle.config.dtype == torch.bfloat16, claim="the config tells the dtype that load cast to"
        )
        (handle,) = ll.load(base(), path)
        assert_holds(
            {p.dtype for p in handle.parameters()} == {torch.float32},
            claim="load keeps the dtype of the file",
        )


@claim(stage="load")
def test_load_runs_no_decomposition() -> None:
    """No SVD and no PCA: what they gave is in the file."""

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise Violation("load recomputed a decomposition")

    for config in (ll.PiSSAConfig(r=2), ll.AntiPaSTOConfig(r=4)):
        with saved(adapted(config)) as path, pytest.MonkeyPatch.context() as patch:
            for function in ("linalg.svd", "svd_lowrank", "linalg.eigh"):
                patch.setattr(f"torch.{function}", forbidden)
            ll.load(base(), path)


@claim(stage="load")
def test_load_onto_a_layer_that_is_never_called_is_refused() -> None:
    """As attach refuses it."""
    plain = nn.ModuleDict({"attn": nn.ModuleDict({"out_proj": nn.Linear(4, 4)})})
    ll.attach(plain, ll.LoRAConfig(r=2))
    with saved(plain) as path:
        model = nn.ModuleDict({"attn": nn.MultiheadAttention(4, 2)})
        refused(
            model,
            path,
            ll.TargetError,
            "attn.out_proj: .* never calls",
            "load onto out_proj",
            check_base=False,
        )


@claim(stage="save")
def test_a_cast_model_saves_what_its_tensors_are() -> None:
    """The header's dtype is the tensors', not the one asked for at attach."""
    model, plain = adapted().half(), base().half()
    with assert_runs("saving and loading a model that was cast"), saved(model) as path:
        (handle,) = ll.load(plain, path)
    assert_holds(
        handle.config.dtype == torch.float16,
        claim=f"after half() and save the config says {handle.config.dtype}",
    )


@claim(stage="load")
def test_load_into_a_dtype_that_cannot_be_is_refused() -> None:
    """It is the argument that is wrong, not the file."""
    with saved() as path:
        refused(base(), path, ll.ConfigError, "load: dtype is torch.int8", "load into int8", dtype=torch.int8)


@claim(st.just, stage="load", needs=("no data",))
def test_another_option_in_the_header_is_noticed(variant: str) -> None:
    """Each of a variant's own settings, at another value that it could have: the tensors fit, the function
    would be another.
    """
    unused = ll.VARIANTS[variant].config_class.unused
    config = build_config(variant, () if "r" in unused else (("r", 4),))
    for name, values in own_options(variant).items():
        other = next(value for value in values if value != getattr(config, name))
        with saved(adapted(config)) as path:
            rewrite(path, partial(_set_option, name, other))
            match = "what it holds is not what save wrote|damaged header|is missing|unknown tensors|has shape"
            refused(base(), path, ll.CheckpointError, match, f"a file whose {name} was made {other!r}")


def _set_option(name: str, value: object, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    config_of(header)[name] = value
