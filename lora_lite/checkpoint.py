"""save and load: one safetensors file, its header holding the configs, a fingerprint of the base and a digest
of it all.
"""

import ctypes
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lora_lite.adapter import (
    Adapter,
    attachable,
    attached,
    base_parameters,
    device_of,
    install,
    refuse_non_finite_base,
    refuse_overlap,
    unwrapped,
)
from lora_lite.config import ADAPTER_DTYPES, AdapterConfig
from lora_lite.errors import BaseMismatchError, BaseWeightError, CheckpointError, ConfigError, naming
from lora_lite.linear import LinearShape, all_finite, is_linear, linear_shape, quantisation_scales
from lora_lite.parallel import gathered, refuse_disagreement, write_once
from lora_lite.spec import VARIANTS, Variant
from lora_lite.targets import refuse_uncalled

# Goes up with every change of the file's layout; load reads no other.
FORMAT = 2
HEADER = "lora_lite"
KEYS = ("format", "adapters", "base", "digest")


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write every adapter on `model` to one safetensors file; nothing of the base but a fingerprint.

    Atomic: the file is written beside its place and moved there, so that a crash leaves the old file whole. A
    model that fully_shard has split over processes is gathered: call save in all of them, the first one
    writes.

    Raises NotAttachedError, TargetError where those processes hold different adapters, ConfigError where the
    adapter was cast to a dtype that load would refuse, CheckpointError where a part of it was cast or holds
    NaN or Inf, BaseWeightError on a base without numbers, and OSError where the place cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    entries = []
    model = unwrapped(model)
    for adapter in attached(model):
        layers = adapter.layers()
        for target, layer in layers.items():
            # Contiguous, because safetensors refuses what is not.
            tensors |= {
                f"{target}.{name}": tensor.detach().contiguous()
                for name, tensor in layer.state_dict().items()
            }
        ranks = {
            target: {"r": layer.config.r, "alpha": layer.config.alpha} for target, layer in layers.items()
        }
        # The user may have cast the model since attach: what counts is what the tensors are.
        config = replace(adapter.config, dtype=_dtype(layers))
        entries.append({"variant": config.variant, "config": config.to_json(), "targets": ranks})
    header: dict[str, Any] = {"format": FORMAT, "adapters": entries, "base": fingerprint(model)}
    # Collective: every process of a split model has to come by here and below, whichever of them writes.
    whole = {name: gathered(tensor) for name, tensor in tensors.items()}
    _refuse_non_finite(whole)
    header["digest"] = digest_of_all(header, {name: _digest(tensor) for name, tensor in whole.items()})
    metadata = {HEADER: json.dumps(header, allow_nan=False)}
    refuse_disagreement(model, header["digest"])
    write_once(
        model, lambda: _write_atomically(Path(path), lambda place: save_file(whole, place, metadata=metadata))
    )


def _dtype(layers: Mapping[str, Variant]) -> torch.dtype:
    """The one dtype of all tensors of an adapter. Raises CheckpointError where there are two."""
    wanted: torch.dtype | None = None
    for target, layer in layers.items():
        for name, tensor in layer.state_dict().items():
            wanted = wanted or tensor.dtype
            if tensor.dtype != wanted:
                raise CheckpointError(
                    f"{target}: tensor {name} is {tensor.dtype}, wanted {wanted} as in {next(iter(layers))}. "
                    "Cast the whole adapter, or none of it."
                )
    assert wanted is not None, "an adapter has a target, and that a tensor"
    return wanted


def _refuse_non_finite(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not all_finite(tensor):
            raise CheckpointError(
                f"{name}: found NaN or Inf, wanted finite numbers to save: the training diverged, or the"
                " adapter was cast to a dtype too narrow for it. Nothing was written."
            )


def _write_atomically(path: Path, write: Any) -> None:
    # In the same folder: a rename is atomic within one file system alone.
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        # By the name that the user gave, and not by that of the file beside it.
        raise OSError(error.errno, error.strerror, str(path)) from error
    # save_file opens it anew, by name.
    os.close(handle)
    try:
        write(name)
        # mkstemp lets its owner alone read; wanted is what open() would have made. The umask can be read only
        # by setting it.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        # On the disk before it takes the old file's place: whatever crashes, one of the two is whole.
        with open(name, "rb") as file:
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, SafetensorError):
            raise OSError(
                f"{path}: it could not be written: {error}. What was there before is whole."
            ) from error
        raise


def fingerprint(model: nn.Module) -> dict[str, str]:
    """Every base parameter's dtype and shape, and a digest of every bit. Adapters and buffers do not count.

    Raises BaseWeightError on the meta device, where there are no bits.
    """
    for name, parameter in base_parameters(model):
        if parameter.is_meta:
            raise BaseWeightError(
                f"{name}: found on the meta device, wanted numbers. Give the model its weights first."
            )
    return {
        name: _described(gathered(p.detach()), *_scales(model, name)) for name, p in base_parameters(model)
    }


def _described(tensor: Tensor, *scales: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)} {_digest(tensor, *scales)}"


def digest_of_all(header: Mapping[str, Any], tensors: Mapping[str, str]) -> str:
    """One digest of a header, its own digest aside, and of the digests of the file's tensors by name."""
    own = {name: value for name, value in header.items() if name != "digest"}
    # 64 bits, here and for tensors: enough to notice damage or another base. It is no signature.
    return hashlib.sha256(json.dumps([own, tensors], sort_keys=True).encode()).hexdigest()[:16]


def _scales(model: nn.Module, name: str) -> tuple[Tensor, ...]:
    owner, _, last = name.rpartition(".")
    return quantisation_scales(model.get_submodule(owner)) if last == "weight" else ()


def _digest(tensor: Tensor, *scales: Tensor) -> str:
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    for scale in scales:
        digest.update(_digest(scale).encode())
    if hasattr(tensor, "__tensor_flatten__"):
        # A tensor subclass, as torchao's quantised weights are: the numbers lie in its inner tensors.
        inner, _ = tensor.__tensor_flatten__()
        for name in inner:
            digest.update(_digest(getattr(tensor, name)).encode())
        return digest.hexdigest()[:16]
    data = tensor.cpu().contiguous()
    size = data.numel() * data.element_size()
    # Straight from memory: numpy knows no bfloat16 and is no dependency.
    digest.update((ctypes.c_char * size).from_address(data.data_ptr()) if size else b"")
    return digest.hexdigest()[:16]


def load(
    model: nn.Module,
    path: str | os.PathLike[str],
    dtype: torch.dtype | None = None,
    check_base: bool = True,
) -> list[Adapter]:
    """Attach the adapters of a file written by save; one handle for each, in the order they were attached.

    Tensors are bit-equal to what was saved. No SVD and no calibration is run again. Everything is read and
    checked before the model is touched: on any error it is as before.

    dtype       the adapters' dtype: torch.float32, bfloat16, float16 or float64; None as in the file
    check_base  False takes any base whose layers have the right names and shapes, and finite numbers; True
                only the one that the file was made for, bit for bit

    Raises CheckpointError (not a whole, well-formed file for these layers), BaseMismatchError (made for other
    base weights), TargetError (a target carries an adapter already, or is never called; a model that is split
    over processes), ConfigError (dtype), BaseWeightError (a base without numbers, or with NaN or Inf),
    OSError (FileNotFoundError, PermissionError: a file that cannot be read).
    """
    if dtype is not None and dtype not in ADAPTER_DTYPES.values():
        raise ConfigError(
            f"load: dtype is {dtype!r}, wanted None or a torch dtype among {', '.join(ADAPTER_DTYPES)}."
        )
    model = attachable(model)
    with _opened(Path(path)) as (header, tensors):
        if check_base:
            _check_base(path, model, header["base"])
        adapters = []
        for entry in header["adapters"]:
            config, modules = _rebuild(path, model, entry, tensors, dtype)
            adapters.append((config, modules))
        # What no adapter has taken.
        if tensors:
            raise CheckpointError(
                f"{path}: unknown tensors {sorted(tensors)[:5]}, wanted those of the adapters in its header."
            )
    _refuse_repeated(path, model, [name for _, modules in adapters for name in modules])
    # Only now is every tensor read; and the errors above say more than that two digests differ.
    if digest_of_all(header, tensors.digests) != header["digest"]:
        raise CheckpointError(
            f"{path}: what it holds is not what save wrote (digest {digest_of_all(header, tensors.digests)},"
            f" the file says {header['digest']}): damaged, or changed by hand. Save or copy it again."
        )
    # A base that passed the check is the one that attach has looked at.
    if not check_base:
        for name in (name for _, modules in adapters for name in modules):
            with naming(name):
                refuse_non_finite_base(model.get_submodule(name), read=False)
    return install(model, adapters)


class _Tensors(set[str]):
    """The names of an open file's tensors that nobody has taken yet, and the digests of those that were."""

    def __init__(self, file: Any) -> None:
        super().__init__(file.keys())
        self.file = file
        self.digests: dict[str, str] = {}

    def take(self, name: str) -> Tensor | None:
        """The tensor, read now and not before: a file may declare a million of them. None where it is not
        there.
        """
        if name not in self:
            return None
        self.remove(name)
        # Cloned: what safe_open returns may be a view of the mapped file, which can change under us.
        tensor: Tensor = self.file.get_tensor(name).clone()
        self.digests[name] = _digest(tensor)
        return tensor


def _refuse_repeated(path: object, model: nn.Module, targets: list[str]) -> None:
    """A layer carries one adapter, under however many names and in however many adapters the file has it."""
    layers = [model.get_submodule(name) for name in targets]
    repeated = [name for name, layer in zip(targets, layers, strict=True) if layers.count(layer) > 1]
    if repeated:
        raise CheckpointError(
            f"{path}: {', '.join(repeated[:5])}: the file has more than one adapter for the same layer."
        )


@contextmanager
def _opened(path: Path) -> Iterator[tuple[dict[str, Any], _Tensors]]:
    """The header of a file, and its tensors while it is open."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file{', but a folder' if path.is_dir() else ''}.")
    path.open("rb").close()  # says why it cannot be read; safe_open says that it is not there
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if HEADER not in metadata:
                raise CheckpointError(
                    f"{path}: a safetensors file without a {HEADER!r} header. Load files written by"
                    " lora_lite.save."
                )
            yield _parse_header(path, metadata[HEADER]), _Tensors(file)
    except SafetensorError as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file: {error}. Save or copy it again, with lora_lite.save."
        ) from error


def _parse_header(path: Path, text: str) -> dict[str, Any]:
    # Python's json takes NaN and Infinity, which are no JSON.
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    try:
        header: Any = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        # RecursionError: brackets that nest deeper than Python follows.
        raise CheckpointError(f"{path}: the header is not valid JSON: {error}.") from error
    _require(path, isinstance(header, dict), "the header", "a JSON object")
    if header.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: format {header.get('format')!r}, this version of lora_lite reads {FORMAT}. Install the"
            " one that wrote it."
        )
    _require(path, set(header) == set(KEYS), "the header", f"an object with the keys {', '.join(KEYS)}")
    _require(path, isinstance(header["digest"], str), "digest", "a string")
    _require(
        path,
        isinstance(header["adapters"], list) and header["adapters"],
        "adapters",
        "a list of at least one",
    )
    for entry in header["adapters"]:
        well_formed = isinstance(entry, dict) and set(entry) == {"variant", "config", "targets"}
        _require(path, well_formed, "each adapter", "a variant, a config and targets")
        _require(path, isinstance(entry["config"], dict), "config", "a JSON object")
        targets = entry["targets"]
        _require(path, isinstance(targets, dict) and targets, "targets", "at least one layer")
        for own in targets.values():
            _require(
                path, isinstance(own, dict) and set(own) == {"r", "alpha"}, "each target", "its r and alpha"
            )
    base = header["base"]
    _require(
        path,
        isinstance(base, dict) and all(isinstance(v, str) for v in base.values()),
        "base",
        "a digest by name",
    )
    checked: dict[str, Any] = header
    return checked


def _require(path: Path, holds: object, what: str, wanted: str) -> None:
    if not holds:
        raise CheckpointError(f"{path}: damaged header: {what} should be {wanted}. Save it again.")


def _check_base(path: object, model: nn.Module, wanted: Mapping[str, str]) -> None:
    found = fingerprint(model)
    if found == wanted:
        return
    lines = [f"{path} was made for another base."]
    for name in [*wanted, *(name for name in found if name not in wanted)]:
        if found.get(name) != wanted.get(name):
            here, there = (side.get(name, "no such parameter") for side in (found, wanted))
            lines.append(f"  {name}: found {here}, the file says {there}.")
    # Another base differs everywhere; five parameters show it.
    if len(lines) > 6:
        lines[6:] = [f"  … {len(lines) - 6} more of {len(wanted)} parameters."]
    lines.append(
        "Load it onto the checkpoint it was trained on, or pass check_base=False if you know that they"
        " compute the same."
    )
    raise BaseMismatchError("\n".join(lines))


def _rebuild(
    path: object, model: nn.Module, entry: dict[str, Any], tensors: _Tensors, dtype: torch.dtype | None
) -> tuple[AdapterConfig, dict[str, Variant]]:
    """The adapter's modules with their saved tensors, taken out of `tensors`.

    Touches nothing of the model.
    """
    if not isinstance(entry["variant"], str) or entry["variant"] not in VARIANTS:
        raise CheckpointError(
            f"{path}: unknown variant {entry['variant']!r}, this lora_lite knows {sorted(VARIANTS)}."
        )
    variant = VARIANTS[entry["variant"]]
    layers = {}
    for target in entry["targets"]:
        layers[target] = _layer(path, model, target)
    refuse_overlap(layers)
    refuse_uncalled(model, layers)
    modules = {}
    with _blaming_the_header(path):
        config = variant.config_class.from_json(entry["config"])
    if dtype is not None:
        config = replace(
            config, dtype=dtype
        )  # a ConfigError of its own: it is the argument that does not fit
    with _blaming_the_header(path):
        for target, own in entry["targets"].items():
            shape, device = linear_shape(layers[target]), device_of(layers[target])
            variant.check(shape, config)
            # Most layers have the config's own r and alpha, checked already. By repr: 1 == True == 1.0.
            same = repr(own) == repr({"r": config.r, "alpha": config.alpha})
            layer_config = config if same else replace(config, **own)
            saved = _take(path, target, variant, shape, layer_config, tensors, cast=dtype is not None)
            given = {name: tensor.to(device=device, dtype=dtype) for name, tensor in saved.items()}
            modules[target] = variant(shape, layer_config, tensors=given)
    return config, modules


@contextmanager
def _blaming_the_header(path: object) -> Iterator[None]:
    """A config that cannot be is a damaged header."""
    try:
        yield
    except ConfigError as error:
        raise CheckpointError(f"{path}: damaged header: {error}") from error


def _layer(path: object, model: nn.Module, name: str) -> nn.Module:
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        layer = None
    if layer is None or not is_linear(layer):
        found = "no such layer" if layer is None else f"a {type(layer).__name__}"
        raise CheckpointError(f"{path}: {name}: found {found} in this model, wanted a linear layer.")
    return layer


def _take(
    path: object,
    target: str,
    variant: type[Variant],
    shape: LinearShape,
    config: AdapterConfig,
    tensors: _Tensors,
    *,
    cast: bool,
) -> dict[str, Tensor]:
    """One layer's tensors, out of `tensors`, each as its spec wants it; cast: in any adapter dtype."""
    taken = {}
    for name, spec in variant.specs(shape, config).items():
        saved = tensors.take(f"{target}.{name}")
        if saved is None:
            raise CheckpointError(f"{path}: {target}: tensor {name} is missing, wanted shape {spec.shape}.")
        if saved.shape != spec.shape:
            raise CheckpointError(
                f"{path}: {target}: tensor {name} has shape {tuple(saved.shape)}, wanted {spec.shape} for a "
                f"{variant.name} adapter on a layer {shape.d_in} → {shape.d_out}."
            )
        if saved.dtype not in ADAPTER_DTYPES.values() or (not cast and saved.dtype != config.dtype):
            raise CheckpointError(
                f"{path}: {target}: tensor {name} is {saved.dtype}, wanted floating point, {config.dtype}."
            )
        taken[name] = saved
    return taken
