"""README's example of a fresh head, run word for word on a real encoder."""

from pathlib import Path
from typing import Any

import pytest
import torch

import lora_lite as ll
from properties.subjects.pretrained import CALIBRATION, PACKAGE, folder, tokens

pytestmark = [pytest.mark.instruments, pytest.mark.slow]

README = Path(__file__).parents[2] / "README.md"


def example() -> str:
    """The block of Python under the paragraph about a fresh head."""
    _, _, after = README.read_text(encoding="utf-8").partition("**A fresh head.**")
    return after.partition("```python\n")[2].partition("```")[0]


def long_or_short() -> list[dict[str, Any]]:
    """Sentences, of which the longer half is class 1: what a head on this body can learn."""
    texts = sorted((text for batch in CALIBRATION for text in batch), key=len)
    batch = tokens(texts, longest=32)
    return [
        {**{name: tensor[i] for name, tensor in batch.items()}, "labels": int(2 * i >= len(texts))}
        for i in range(len(texts))
    ]


def logits(model: Any, data: list[dict[str, Any]]) -> torch.Tensor:
    names = [name for name in data[0] if name != "labels"]
    with torch.no_grad():
        return model.eval()(**{n: torch.stack([one[n] for one in data]) for n in names}).logits  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore::UserWarning:torch.*", "ignore::FutureWarning")
def test_readme_trains_a_classifier_that_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It learns; what is loaded onto another head is the same bit for bit, what is merged to rounding."""
    for needed in (PACKAGE, "transformers", "accelerate"):
        pytest.importorskip(needed, reason=f"pip install {needed.replace('_', '-')}")
    monkeypatch.chdir(tmp_path)
    data, told = long_or_short(), {"ll": ll, "folder": folder()}
    torch.manual_seed(0)
    code = example()
    before, loading, after = code.partition("ll.merge(fresh)")
    names: dict[str, Any] = {}
    exec(before, told | {"data": data}, names)
    wanted = logits(names["model"], data)
    assert torch.equal(logits(names["fresh"], data), wanted)
    labels = torch.tensor([one["labels"] for one in data])
    assert (wanted.argmax(1) == labels).float().mean() > 0.8, "the classifier has learnt nothing"
    exec(loading + after, told, names)
    from transformers import AutoModelForSequenceClassification

    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    off = (logits(merged, data) - wanted).abs().max()
    assert off <= 1e3 * torch.finfo(wanted.dtype).eps * wanted.abs().max()
