"""Adapters as peft and lora_lite write them, on small models, and the faults that are put into them."""

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import lora_lite as ll
from properties.subjects import pretrained
from properties.verify.bases import TEXT, Base, batches_of
from properties.verify.report import Report
from strategies import Qwen3Recipe, gaussian

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
LARGEST = torch.finfo(torch.bfloat16).max


@dataclass(frozen=True)
class Names:
    """Of a model of at least two blocks: all that are adapted in these, the first and last of them, and how
    the adapter's config calls them. lacked: one of a block that is not there.
    """

    block: str
    targets: tuple[str, str]

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(f"{self.block.format(i)}.{target}" for i in (0, 1) for target in self.targets)

    @property
    def first(self) -> str:
        return self.all[0]

    @property
    def last(self) -> str:
        return self.all[-1]

    @property
    def lacked(self) -> str:
        return f"{self.block.format(7)}.{self.targets[0]}"


LLAMA = Names("model.layers.{}.self_attn", ("q_proj", "v_proj"))
NAMES = {"llama": LLAMA, "minilm": Names("encoder.layer.{}.attention.self", ("query", "value"))}
Q, V = LLAMA.first, LLAMA.last


def llama(seed: int = 0, width: int = 16) -> Any:
    """LlamaForCausalLM of two layers with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=width,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        tie_word_embeddings=False,
    )
    return drawn(LlamaForCausalLM(config), seed)


def qwen3(seed: int = 0) -> Any:
    return Qwen3Recipe(layers=2, width=16, inner=24, tied=True, seed=seed).build()


def gpt2(seed: int = 0) -> Any:
    """Its layers are Conv1D, whose weights are transposed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    return drawn(
        GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=64)), seed
    )


def t5(seed: int = 0) -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    return drawn(T5ForConditionalGeneration(config), seed)


def classifier(seed: int = 0) -> Any:
    """With a head of three classes."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        id2label=dict(enumerate("abc")),
    )
    return drawn(BertForSequenceClassification(config), seed)


def drawn(model: Any, seed: int) -> Any:
    """Weights as large as their width makes usual: transformers draws them too small for anything to show."""
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            width = parameter.shape[-1]
            parameter.data.copy_(gaussian(0, f"{seed} {name}", tuple(parameter.shape)) / width**0.5)
    return model.eval()


MODELS: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "other": lambda: llama(seed=1),
    "wider": lambda: llama(width=32),
    "bfloat16": lambda: llama().bfloat16(),
    "qwen3": qwen3,
    "gpt2": gpt2,
    "t5": t5,
    "classifier": classifier,
    "minilm": lambda: copy.deepcopy(pretrained.encoder()[0]),
}


@cache
def base(name: str) -> Base:
    """A small model and what it reads. Whoever changes the model puts it back."""
    model = MODELS[name]()
    batches, told = batches_of(str(pretrained.folder()) if name == "minilm" else "", model, TEXT[:1])
    return Base(model, batches, told, path=name)


def folder(base: Base, path: Path, config: Any = None, **settings: Any) -> Path:
    """A folder that peft wrote."""
    on_peft(base.model, config or lora(**settings)).save_pretrained(path)
    return path


def filled(tensors: Iterable[tuple[str, Tensor]], seed: int = 0) -> None:
    """As trained: away from init by a tenth of what the width makes usual, or of themselves."""
    for name, tensor in tensors:
        step = gaussian(0, f"{seed} {name}", tuple(tensor.shape)).to(tensor)
        size = (
            0.1
            if tensor.ndim < 2
            else max(float(tensor.detach().double().abs().mean()), 0.3 / tensor.shape[-1])
        )
        tensor.data.add_(size * step)


def on_peft(model: nn.Module, config: Any) -> Any:
    """A peft model around a copy of this one, as trained."""
    import peft

    wrapped = peft.get_peft_model(copy.deepcopy(model), config)
    filled((name, p) for name, p in wrapped.named_parameters() if p.requires_grad)
    return wrapped.eval()


def lora(**settings: Any) -> Any:
    import peft

    return peft.LoraConfig(**{"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "v_proj"], **settings})


def by_lora_lite(model: nn.Module, path: Path, config: ll.AdapterConfig, data: Any = None) -> Path:
    """A file of ll.save, of an adapter as trained."""
    model = copy.deepcopy(model)
    adapter = ll.attach(model, config, data)
    filled(adapter.named_parameters())
    ll.save(model, path)
    return path


def edit(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    """The folder's tensors, changed in their dict, by the layer's name and the tensor's own."""
    tensors = {name.removeprefix(PREFIX): t for name, t in load_file(folder / TENSORS).items()}
    change(tensors)
    save_file({PREFIX + name: tensor for name, tensor in tensors.items()}, folder / TENSORS)


def configure(folder: Path, **settings: Any) -> None:
    """The folder's config with other settings."""
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps({**config, **settings}), encoding="utf-8")


def zero_b(tensors: dict[str, Tensor], only: str = "") -> None:
    for name, tensor in tensors.items():
        if name.endswith("lora_B.weight") and only in name:
            tensor.zero_()


def moved_prefix(tensors: dict[str, Tensor]) -> None:
    for name in list(tensors):
        tensors[f"language_{name}"] = tensors.pop(name)


def one_more_layer(tensors: dict[str, Tensor], names: Names) -> None:
    for name in [name for name in tensors if name.startswith(names.first)]:
        tensors[name.replace(names.first, names.lacked)] = tensors[name].clone()


def put(tensors: dict[str, Tensor], names: Names, number: float, dtype: torch.dtype = torch.float32) -> None:
    name = f"{names.first}.lora_A.weight"
    tensors[name] = tensors[name].to(dtype)
    tensors[name][0, 0] = number


def shift(path: Path, name: str, size: float) -> None:
    """One tensor of a file, off by this in every entry, up and down in turn."""
    tensors = load_file(path)
    signs = torch.ones(tensors[name].numel()).cumsum(0) % 2 * 2 - 1
    save_file({**tensors, name: tensors[name] + size * signs.view_as(tensors[name])}, path, {"format": "pt"})


def cut(folder: Path) -> None:
    content = (folder / TENSORS).read_bytes()
    (folder / TENSORS).write_bytes(content[: len(content) // 2])


def merged(
    wrapped: Any, path: Path, *, skip: str = "", times: float = 1, dtype: torch.dtype | None = None
) -> Path:
    """A checkpoint into which peft has merged the adapter: but for one layer, several times, in a dtype."""
    wrapped = copy.deepcopy(wrapped)
    before = {name: p.detach().clone() for name, p in wrapped.named_parameters()}
    names = {name.removeprefix(PREFIX): name for name in before}
    plain = wrapped.merge_and_unload()
    for name, parameter in plain.named_parameters():
        own = name.replace(".weight", ".base_layer.weight")
        was = before[names.get(own, names.get(name, ""))].data
        share = 0 if skip and name.startswith(skip) else times
        parameter.data.copy_(was + share * (parameter.data - was))
    plain.to(dtype or torch.float32).save_pretrained(path)
    return path


@contextmanager
def reading_the_weight(mlp: Any) -> Iterator[None]:
    """As a fused kernel does: the up-projection's weight is read, and the layer never called."""

    def forward(x: Tensor) -> Tensor:
        return mlp.down_proj(mlp.act_fn(mlp.gate_proj(x)) * F.linear(x, mlp.up_proj.weight))  # type: ignore[no-any-return]

    mlp.forward = forward
    try:
        yield
    finally:
        del mlp.forward


@contextmanager
def beside(mlp: Any, use: Callable[[nn.Module, Tensor], Any]) -> Iterator[None]:
    """A layer more, which the block uses in this way, whatever comes of it."""
    mlp.extra = nn.Linear(16, 16)

    def hook(block: Any, args: Any, y: Tensor) -> None:
        use(block.extra, args[0])

    given = mlp.register_forward_hook(hook)
    try:
        yield
    finally:
        given.remove()
        del mlp.extra


@contextmanager
def experts(mlp: Any) -> Iterator[None]:
    """Two layers beside each other, of which this text has the first one called."""
    mlp.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))
    given = mlp.register_forward_hook(lambda block, args, y: y + block.experts[0](args[0]))
    try:
        yield
    finally:
        given.remove()


def told(report: Report) -> dict[str, tuple[str, ...]]:
    """The layers of each kind of fault, by name where several findings are of one kind."""
    found: dict[str, tuple[str, ...]] = {}
    for finding in report.faults:
        known = found.get(finding.kind)
        found[finding.kind] = finding.layers if known is None else tuple(sorted((*known, *finding.layers)))
    return found
