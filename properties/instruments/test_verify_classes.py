"""`python -m properties.verify` on heads: in which class the base is opened, and what cannot be judged."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import lora_lite as ll
from properties.instruments import planted_faults as plant
from properties.instruments.planted_faults import told
from properties.verify.__main__ import main
from properties.verify.judge import verify
from properties.verify.page import page
from properties.verify.report import CANNOT

pytest.importorskip("peft", reason="pip install peft")
pytestmark = [
    pytest.mark.instruments,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
KIND = "BertForSequenceClassification"


@pytest.fixture
def body(tmp_path: Path) -> str:
    """A folder of the encoder under the classifier, which has no head."""
    model: Any = plant.base("classifier").model
    model.bert.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def with_head(path: Path) -> Any:
    """The classifier of three classes with LoRA and a head that trains along, saved by lora_lite."""
    model: Any = copy.deepcopy(plant.base("classifier").model)
    ll.attach(model, ll.LoRAConfig(r=4, target_names=("query",)))
    ll.attach(model, ll.FullConfig(target_names=("classifier",)))
    plant.filled((n, p) for handle in ll.adapters_of(model) for n, p in handle.named_parameters())
    ll.save(model, path)
    return model


@pytest.mark.parametrize("by", ["lora_lite", "export_peft", "peft", "peft, without a task"])
def test_the_class_is_that_of_the_files_head(by: str, body: str, tmp_path: Path) -> None:
    """And so is the number of classes: the folder says two."""
    config = Path(body, "config.json")
    told_by_folder = json.loads(config.read_text(encoding="utf-8"))
    for name in ("id2label", "label2id"):
        del told_by_folder[name]
    config.write_text(json.dumps(told_by_folder), encoding="utf-8")
    at = tmp_path / "adapter"
    if by == "lora_lite":
        with_head(at)
    elif by == "export_peft":
        ll.export_peft(with_head(tmp_path / "own"), at)
        plant.configure(at, task_type=None, auto_mapping=None)
    else:
        task = "SEQ_CLS" if by == "peft" else None
        plant.folder(
            plant.base("classifier"),
            at,
            target_modules=["query"],
            task_type=task,
            modules_to_save=["classifier"],
        )
    report = verify(body, str(at))
    assert report.code == 0, page(report)
    assert report.about["class"].startswith(f"{KIND}, as ")
    assert "classifier" in [row.layer for row in report.rows]


def test_the_folders_own_class_is_not_told(tmp_path: Path) -> None:
    model: Any = plant.base("classifier").model
    model.save_pretrained(tmp_path / "base")
    with_head(tmp_path / "a.safetensors")
    report = verify(str(tmp_path / "base"), str(tmp_path / "a.safetensors"))
    assert report.code == 0, page(report)
    assert "class" not in report.about


def test_classes_that_cannot_be_told_apart_are_options(
    body: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sequences and tokens are classified by heads of one name, and a bare folder of peft's says no more."""
    at = plant.folder(
        plant.base("classifier"),
        tmp_path / "adapter",
        target_modules=["query"],
        modules_to_save=["classifier"],
    )
    plant.configure(at, auto_mapping=None)
    assert main([body, str(at)]) == CANNOT
    assert "--class AutoModelForSequenceClassification or --class AutoModelForTokenClassification" in (
        capsys.readouterr().out
    )
    assert main([body, str(at), "--class", "AutoModelForSequenceClassification"]) == 0


def test_names_of_another_class_are_a_fault_that_names_it(body: str, tmp_path: Path) -> None:
    """Without a head nothing says that the base is to be another one than the folder's."""
    at = plant.folder(plant.base("classifier"), tmp_path / "adapter", target_modules=["query"])
    plant.configure(at, auto_mapping=None)
    report = verify(body, str(at))
    assert "layers that the model lacks" in told(report), page(report)
    assert "no 'bert' in front; they are there with --class AutoModel" in page(report)


def test_a_text_without_a_tokenizer_is_refused(
    body: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_head(tmp_path / "a.safetensors")
    (tmp_path / "text").write_text("Read this.\n", encoding="utf-8")
    assert main([body, str(tmp_path / "a.safetensors"), "--text", str(tmp_path / "text")]) == CANNOT
    assert "has no tokenizer to read it with" in capsys.readouterr().out


def test_a_head_that_a_low_rank_adapter_is_on_is_another_base(body: str, tmp_path: Path) -> None:
    """Drawn anew each time, it is told of with what would have saved it."""
    model = copy.deepcopy(plant.base("classifier").model)
    handle = ll.attach(model, ll.LoRAConfig(r=2, target_names=("query", "classifier")))
    plant.filled(handle.named_parameters())
    ll.save(model, tmp_path / "a.safetensors")
    report = verify(body, str(tmp_path / "a.safetensors"), kind="AutoModelForSequenceClassification")
    assert set(told(report)) == {"another base"}, page(report)
    assert "FullConfig(target_names=('classifier',))" in page(report)


def test_a_folder_of_folders_names_them(
    body: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """peft saves an adapter of a name of its own one below; a pickle alone is not opened."""
    inner = plant.folder(plant.base("classifier"), tmp_path / "all" / "second", target_modules=["query"])
    assert main([body, str(tmp_path / "all")]) == CANNOT
    assert "there are some in it: second" in capsys.readouterr().out
    (inner / plant.TENSORS).rename(inner / "adapter_model.bin")
    assert main([body, str(inner)]) == CANNOT
    assert "have peft load adapter_model.bin and save it again" in capsys.readouterr().out


def test_a_name_without_the_prefix_is_told_so(tmp_path: Path) -> None:
    at = plant.folder(plant.base("llama"), tmp_path / "adapter")
    tensors = load_file(at / plant.TENSORS)
    save_file({name.removeprefix(plant.PREFIX): t for name, t in tensors.items()}, at / plant.TENSORS)
    report = verify(plant.base("llama"), str(at))
    assert "nothing takes their lora_A.weight, lora_B.weight: peft drops it, as their names have no" in page(
        report
    )
