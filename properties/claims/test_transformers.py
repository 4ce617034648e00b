"""Adapters where transformers trains, generates, places and writes models: its own code, on small ones."""

import copy
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

import lora_lite as ll
from properties.judging.agreement import add_a_constant, round_trip
from properties.judging.assertions import assert_holds, assert_identical, assert_refuses, assert_within
from properties.judging.claim import claim
from properties.judging.fixed_models import moved
from properties.judging.tolerance import claim_bound
from properties.subjects import subject
from properties.subjects.attaching import attach
from strategies import AdaptedModel, trained_models

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
STEPS, TOKENS, CLASSES = 4, 8, 2
HOME: dict[str, Any] = {"subject": "lora_lite", "needs": ("transformers", "accelerate"), "slow": True}


def classifier(head: int) -> Any:
    """A BERT of two blocks, the same at every call, and a head drawn from the seed `head`."""
    from transformers import AutoModelForSequenceClassification, BertConfig

    config = BertConfig.from_dict({**SIZES, "vocab_size": 40, "max_position_embeddings": 16})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kind: Any = AutoModelForSequenceClassification
        model = kind.from_config(config)
        torch.manual_seed(head)
        nn.init.normal_(model.classifier.weight)
    return model


def adapted(head: int) -> Any:
    """With LoRA on its attention, and a head that trains along."""
    model = classifier(head)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(head)
        ll.attach(model, ll.LoRAConfig(r=4, target_names=("query", "value")))
    ll.attach(model, ll.FullConfig(target_names=("classifier",)))
    return model


def sentences() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 40, (16, TOKENS), generator=generator)
    return [{"input_ids": row, "labels": i % CLASSES} for i, row in enumerate(ids)]


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        ids = torch.stack([sentence["input_ids"] for sentence in sentences()])
        return model.eval()(input_ids=ids).logits  # type: ignore[no-any-return]


def trainer(model: Any, folder: str) -> Any:
    """Four steps with dropout, a checkpoint after each second."""
    from transformers import Trainer, TrainingArguments

    settings: dict[str, Any] = {
        "max_steps": STEPS,
        "save_steps": STEPS // 2,
        "learning_rate": 1e-2,
        "use_cpu": True,
    }
    quiet: dict[str, Any] = {"report_to": [], "disable_tqdm": True, "logging_strategy": "no"}
    arguments = TrainingArguments(folder, per_device_train_batch_size=4, **settings, **quiet)
    return Trainer(model, arguments, train_dataset=sentences())


@contextmanager
def folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as made:
        yield made


@claim(stage="training", **HOME)
def test_a_trainer_resumes_adapter_and_head() -> None:
    """In a model whose head and adapter were drawn anew, from half-way: bit for bit as without a break."""
    with folder() as place:
        model, again = adapted(1), adapted(2)
        start = {name: p.detach().clone() for name, p in model.named_parameters()}
        trainer(model, place).train()
        trainer(again, place).train(resume_from_checkpoint=f"{place}/checkpoint-{STEPS // 2}")
    resumed = dict(again.named_parameters())
    for name, parameter in model.named_parameters():
        still = torch.equal(parameter, start[name])
        own = "lora_lite" in name
        found = f"{name} {'has not' if still else 'has'} changed in {STEPS} steps of a Trainer"
        assert_holds(still != own, claim=found)
        what = f"{name} of the run that was resumed"
        assert_identical(resumed[name].detach(), parameter.detach(), what=what, like="that of the other")


@claim(stage="save", **HOME)
def test_a_classifier_comes_back_and_merges_into_a_plain_checkpoint() -> None:
    """Its own file onto another head; and merged, as save_pretrained writes and from_pretrained reads it."""
    from transformers import AutoModelForSequenceClassification

    model = adapted(1)
    for adapter in ll.adapters_of(model):
        moved(adapter)
    wanted = logits(model)
    loaded: Any = round_trip(model, classifier(2))
    assert_identical(logits(loaded), wanted, what="the logits after load", like="before save")
    subject.merge(loaded)
    merged = logits(loaded)
    bound = claim_bound(wanted.abs().max(), torch.float32)
    assert_within(merged, wanted, bound, what="the logits after merge", like="before", dtype=torch.float32)
    with folder() as place:
        loaded.save_pretrained(place)
        back = AutoModelForSequenceClassification.from_pretrained(place)
    what = "the logits of the merged checkpoint, read back,"
    assert_identical(logits(back), merged, what=what, like="those of the merged model")


def decoders(variant: str) -> st.SearchStrategy[AdaptedModel]:
    """Qwen3 in float64, so that no two tokens are alike to rounding."""
    return trained_models(variant, kinds=("qwen3",), dtypes=("float64",), adapter_dtypes=("float64",))


def generated(model: Any, **how: Any) -> list[list[int]]:
    prompt = torch.tensor([[1, 5, 7]])
    given = {"attention_mask": torch.ones_like(prompt), "pad_token_id": 0}
    tokens: Tensor = model.generate(prompt, max_new_tokens=6, do_sample=False, **given, **how)
    return tokens.tolist()


@claim(decoders, stage="forward", share=0.1, needs=("transformers",), slow=True, capability="generate")
def test_generation_is_the_same_with_a_cache_beams_or_an_assistant(case: AdaptedModel) -> None:
    """Greedy and beams with and without the cache of keys and values; the base as the assistant; merged."""
    model: Any = attach(case).model
    assistant = case.build()
    for beams in (1, 3):
        plain = generated(model, use_cache=False, num_beams=beams)
        cached = generated(model, use_cache=True, num_beams=beams)
        found = f"with a cache and {beams} beams generate gives {cached}, without {plain}"
        assert_holds(cached == plain, claim=found)
    plain, helped = generated(model), generated(model, assistant_model=assistant)
    assert_holds(helped == plain, claim=f"with an assistant generate gives {helped}, alone {plain}")
    if not add_a_constant(model):
        subject.merge(model)
        merged = generated(model)
        assert_holds(merged == plain, claim=f"merged, generate gives {merged}, before {plain}")


@claim(stage="engine", **HOME)
def test_what_is_placed_is_right_and_what_is_offloaded_is_refused() -> None:
    """device_map on devices that are there: an adapter as ever. A layer on the disk: refused by its name."""
    from transformers import AutoModelForSequenceClassification

    with folder() as place:
        classifier(1).save_pretrained(place)
        for where in ("cpu", {"": "cpu"}):
            model = AutoModelForSequenceClassification.from_pretrained(place, device_map=where)
            wanted = logits(model)
            adapter = ll.attach(model, ll.LoRAConfig(r=2))
            assert_identical(logits(model), wanted, what=f"the logits on {where}", like="the base's")
            moved(adapter)
            wanted = logits(model)
            ll.merge(model)
            bound = claim_bound(wanted.abs().max(), torch.float32)
            what = f"the merged logits on {where}"
            assert_within(logits(model), wanted, bound, what=what, like="before", dtype=torch.float32)
        parts = ("bert.embeddings", "bert.encoder.layer.0", "bert.pooler", "classifier")
        apart = {**dict.fromkeys(parts, "cpu"), "bert.encoder.layer.1": "disk"}
        model = AutoModelForSequenceClassification.from_pretrained(
            place, device_map=apart, offload_folder=str(Path(place) / "offloaded")
        )
        match = r"^bert\.encoder\.layer\.1\.attention\.self\.query: its weight is on the meta device"
        with assert_refuses(ll.BaseWeightError, match, claim="attach to a layer that is on the disk"):
            ll.attach(model, ll.LoRAConfig(r=2))
        wanted = logits(model)
        ll.attach(model, ll.LoRAConfig(r=2, target_names=("layer.0.*query", "classifier")))
        what = "the logits of an adapter beside a layer that is on the disk"
        assert_identical(logits(model), wanted, what=what, like="the base's")


@claim(stage="engine", **HOME)
def test_an_adapter_that_an_engine_takes_away_is_refused() -> None:
    """Offloaded after attach: the layer's weights are brought for its call, the adapter's are not."""
    from accelerate import cpu_offload  # type: ignore[import-untyped]

    model = copy.deepcopy(adapted(1))
    cpu_offload(model, execution_device=torch.device("cpu"))
    query = r"bert\.encoder\.layer\.0\.attention\.self\.query"
    with assert_refuses(ll.TargetError, f"{query}: the adapter is on meta", claim="a call of it"):
        logits(model)
    with assert_refuses(ll.BaseWeightError, f"^{query}: its weight is on the meta", claim="save of it"):
        ll.save(model, "never")
