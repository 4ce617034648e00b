"""What load refuses, each for its own reason, and leaves the model as before: another base, another
architecture, another file, another config.
"""

import warnings
from functools import partial
from typing import Any

import torch
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import assert_refuses
from properties.judging.claim import claim
from properties.judging.files import Damage, adapted, base, config_of, refused, rewrite, saved
from properties.judging.fixed_models import NO_HOOK, Stack, adapt, blocked, simple_config
from strategies.options import own_options


def flip_a_sign(weight: Tensor) -> None:
    weight[0, 0] = -weight[0, 0]


def swap_two_rows(weight: Tensor) -> None:
    weight[[0, 1]] = weight[[1, 0]]


def change_one_bit(weight: Tensor) -> None:
    weight[-1, -1] = torch.nextafter(weight[-1, -1], weight.new_tensor(torch.inf))


@claim(stage="load", subject="lora_lite")
def test_another_base_is_refused() -> None:
    """One sign, two rows, the last bit of one entry; in the last layer. check_base=False takes it."""
    match = r"2\.weight: found float32 \(6, 5\) \w+, the file says float32 \(6, 5\) \w+"
    for change in (flip_a_sign, swap_two_rows, change_one_bit):
        with saved() as path, torch.no_grad():
            other = base()
            change(other[2].weight)  # type: ignore[arg-type]
            did = change.__name__.replace("_", " ")
            refused(other, path, ll.BaseMismatchError, match, f"load onto another base ({did})")
            ll.load(other, path, check_base=False)


@claim(stage="load", subject="lora_lite")
def test_a_base_of_another_dtype_or_width_is_told_by_it() -> None:
    """The message gives both."""
    wide = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 7, bias=False))
    for other, found, kind in (
        (base().bfloat16(), r"bfloat16 \(6, 5\)", "of another dtype"),
        (wide, r"float32 \(7, 5\)", "of another width"),
    ):
        with saved() as path:
            match = rf"2\.weight: found {found} \w+, the file says float32 \(6, 5\) \w+"
            refused(other, path, ll.BaseMismatchError, match, f"load onto a base {kind}")


@claim(stage="load", subject="lora_lite")
def test_a_base_trained_on_is_refused() -> None:
    """A base parameter that was trained beside the adapter would be lost: another base, whatever layer it is
    in.
    """
    with saved() as path:
        model = base()
        model.append(nn.LayerNorm(6))
        match = r"3\.weight: found float32 \(6,\) \w+, the file says no such"
        refused(model, path, ll.BaseMismatchError, match, "load onto a base with one layer more")


@claim(stage="load", subject="lora_lite")
def test_another_architecture_is_refused() -> None:
    """The message names the layer and what does not fit, also where the base is not compared."""
    wide = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 7, bias=False))
    for other, match, what in (
        (wide, r"2: tensor B has shape \(6, 2\), wanted \(7, 2\)", "onto a wider layer"),
        (nn.Sequential(nn.GELU()), "0: found a GELU", "onto a layer of another kind"),
    ):
        with saved() as path:
            refused(other, path, ll.CheckpointError, match, f"load {what}", check_base=False)


@claim(stage="load", subject="lora_lite")
def test_a_refused_load_leaves_the_model_as_before() -> None:
    """A plain model, whose base is another."""
    model, other = (nn.Sequential(nn.Linear(4, 4)) for _ in range(2))
    ll.attach(model, ll.LoRAConfig(r=2))
    with saved(model) as path:
        refused(other, path, ll.BaseMismatchError, "made for another base", "load onto another base")


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
    "a variant that is no name": (lambda t, h: h["adapters"][0].update(variant=["ia3"]), "should be a name"),
    "an unknown variant": (lambda t, h: h["adapters"][0].update(variant="nola"), "unknown variant 'nola'"),
    "another format version": (lambda t, h: h.update(format=99), "format 99"),
    "NaN in the config": (lambda t, h: config_of(h).update(alpha=float("nan")), "NaN is no number"),
    "an option dropped": (lambda t, h: config_of(h).pop("alpha"), r"missing fields \['alpha'\]"),
    "an option unheard of": (lambda t, h: config_of(h).update(beta=1), r"unknown fields \['beta'\]"),
    "an impossible option": (lambda t, h: config_of(h).update(r=-1), "r: found -1"),
    "an unknown dtype": (lambda t, h: config_of(h).update(dtype="int4"), "dtype: found 'int4'"),
    "targets of the wrong type": (lambda t, h: h["adapters"][0].update(targets=["0"]), "targets should be"),
    "a layer's settings as a list": (
        lambda t, h: h["adapters"][0]["targets"].update({"0": ["r", "alpha"]}),
        "each target should be its r and alpha",
    ),
    "a layer's rank alone": (
        lambda t, h: h["adapters"][0]["targets"].update({"0": 2}),
        "each target should be its r and alpha",
    ),
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
    "a digest that is no text": (lambda t, h: h.update(digest=5), "digest should be a string"),
    "no base": (lambda t, h: h.pop("base"), "the header should be"),
}


@claim(stage="load", subject="lora_lite")
def test_a_damaged_file_is_refused() -> None:
    """Each kind of damage is refused for its own reason."""
    for what, (change, match) in DAMAGE.items():
        with saved() as path, warnings.catch_warnings():
            warnings.simplefilter("error")
            rewrite(path, change)
            refused(base(), path, ll.CheckpointError, match, f"load of a damaged file ({what})")


@claim(stage="load", subject="lora_lite")
def test_a_truncated_file_is_refused() -> None:
    """At any length short of the whole."""
    with saved() as path:
        whole = path.read_bytes()
        for length in sorted({0, 1, 7, 8, 9, len(whole) // 3, len(whole) // 2, len(whole) - 1}):
            path.write_bytes(whole[:length])
            tried = f"load of a file cut to {length} of {len(whole)} bytes"
            refused(base(), path, ll.CheckpointError, "not a whole safetensors file", tried)


@claim(stage="load", subject="lora_lite")
def test_a_foreign_file_is_refused() -> None:
    """A safetensors file of somebody else's, and no file at all."""
    with saved() as path:
        save_file({"x": torch.zeros(1)}, path)
        match = "without a 'lora_lite' header.*lora_lite.import_peft"
        refused(base(), path, ll.CheckpointError, match, "load of somebody else's safetensors file")
        missing, none = path.with_name("b"), "no such file"
        refused(base(), missing, FileNotFoundError, none, "load of a file that is not there")
        refused(base(), path.parent, FileNotFoundError, none, "load of a folder")
        (path.parent / "adapter_config.json").write_text("{}")
        match = "no such file, but a folder.*lora_lite.import_peft"
        refused(base(), path.parent, FileNotFoundError, match, "load of a folder of peft's")


@claim(stage="load", subject="lora_lite")
def test_load_onto_an_adapter_is_refused() -> None:
    """A layer carries one adapter."""
    model = adapted()
    with saved(model) as path:
        match = "already carry an adapter"
        refused(model, path, ll.TargetError, match, "load onto a model that carries the adapter already")


@claim(stage="load", subject="lora_lite")
def test_a_load_that_fails_half_way_leaves_the_model_as_before() -> None:
    """The first adapter of two is in the file and on the model already when the second one's layer takes no
    hook.
    """
    model = base()
    for name in ("0", "2"):
        ll.attach(model, ll.LoRAConfig(r=2, target_names=(name,)))
    with saved(model) as path, blocked((fresh := base())[2]):
        refused(fresh, path, *NO_HOOK, "load onto a layer that takes no hook")


@claim(stage="load", subject="lora_lite")
def test_load_onto_a_layer_that_is_never_called_is_refused() -> None:
    """As attach refuses it."""
    plain = nn.ModuleDict({"attn": nn.ModuleDict({"out_proj": nn.Linear(4, 4)})})
    ll.attach(plain, ll.LoRAConfig(r=2))
    with saved(plain) as path:
        model = nn.ModuleDict({"attn": nn.MultiheadAttention(4, 2)})
        match, tried = "attn.out_proj: .* never calls", "load onto out_proj of nn.MultiheadAttention"
        refused(model, path, ll.TargetError, match, tried, check_base=False)


@claim(stage="load", subject="lora_lite")
def test_load_into_a_dtype_that_cannot_be_is_refused() -> None:
    """It is the argument that is wrong, not the file."""
    with saved() as path:
        match, tried = "load: dtype is torch.int8", "load with dtype=torch.int8"
        refused(base(), path, ll.ConfigError, match, tried, dtype=torch.int8)


@claim(st.just, stage="load", needs=("no data",), subject="lora_lite")
def test_another_option_in_the_header_is_noticed(variant: str) -> None:
    """Each of a variant's own settings, at another value that it could have: the tensors fit, the function
    would be another.
    """
    config = simple_config(variant)
    match = "what it holds is not what save wrote|damaged header|is missing|unknown tensors|has shape"
    for name, values in own_options(variant).items():
        for other in [value for value in values if value != getattr(config, name)][:1]:
            with saved(adapt(Stack(), variant)) as path:
                rewrite(path, partial(_set_option, name, other))
                tried = f"load of a file whose {name} was made {other!r}"
                refused(Stack(), path, ll.CheckpointError, match, tried)


def _set_option(name: str, value: object, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    config_of(header)[name] = value


# What may have happened to one layer alone, and to just those of the adapter.
HEAD, MERGED = r"If 0 is a head [^\n]*\n", r"These are the layers of the adapter: [^\n]*\n"


@claim(stage="load", subject="lora_lite")
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
            found = rf"(  \d\.weight: found [^\n]*\n){{{min(layers, 5)}}}{more}"
            told = rf"(?s)made for another base\.\n{found}{HEAD if layers == 1 else ''}{MERGED}Load"
            refused(stack(layers), path, ll.BaseMismatchError, told, f"{layers} other layers")
            ll.detach(wide)
            wide[0].weight.data.neg_()
            told = (
                rf"(?s)another base\.\n  0\.weight: found [^\n]*\n{HEAD}{MERGED if layers == 1 else ''}Load"
            )
            refused(wide, path, ll.BaseMismatchError, told, f"one other layer of {layers}")


def stack(layers: int) -> Any:
    """So many layers with other numbers each time."""
    return nn.Sequential(*(nn.Linear(2, 2, bias=False) for _ in range(layers)))
