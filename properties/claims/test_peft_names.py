"""Which layers a peft folder means by its names: peft and lora_lite must mean the same."""

import copy
import re
from typing import Any

from torch import nn

import lora_lite as ll
from lora_lite.peft_format.patterns import Selection, Valued, compiled
from lora_lite.peft_format.saved_modules import SavedModules
from lora_lite.peft_format.settings import Settings
from properties.judging.assertions import assert_holds, assert_refuses, assert_runs
from properties.judging.claim import claim
from properties.judging.files import scratch_folder
from properties.judging.peft_folders import (
    adapted_by_peft,
    assert_same_layers,
    assert_same_targets,
    exported,
    imported,
    read_by_peft,
    targets_of,
)
from strategies import gaussian
from strategies.peft_names import NAMES, ONE, HeadAmong, Naming, heads_among, namings

PEFT: dict[str, Any] = {"about": ("lora",), "subject": "lora_lite", "needs": ("peft",)}


def trained(case: HeadAmong, base: nn.Module) -> nn.Module:
    """With LoRA on all layers but the head, which is whole; both away from init."""
    model = copy.deepcopy(base)
    others = tuple(re.escape(name) for name in case.names if name != case.head)
    ll.attach(model, ll.LoRAConfig(r=2, target_names=others))
    ll.attach(model, ll.FullConfig(target_names=(re.escape(case.head),)))
    for i, parameter in enumerate(p for adapter in ll.adapters_of(model) for p in adapter.parameters()):
        parameter.data.add_(0.5 * gaussian(i, "step", tuple(parameter.shape)))
    return model


def assert_travels(case: HeadAmong) -> None:
    """To peft and back, onto the same layers, each of which gives the same."""
    model = trained(case, plain := case.build())
    names = targets_of(model)
    with exported(model) as folder:
        theirs = read_by_peft(copy.deepcopy(plain), folder)
        imported(back := copy.deepcopy(plain), folder)
    adapted = [name for name in names if name != case.head]
    assert_same_targets(adapted_by_peft(theirs), adapted, "peft, given the export,")
    assert_same_targets(targets_of(back), names, "import_peft")
    both = {" in peft": theirs, ", imported,": back}
    assert_same_layers(both, model, names, 0, like="what was exported")


@claim(heads_among, stage="save", share=0.5, **PEFT)
def test_a_head_among_names_alike_travels_or_is_refused(case: HeadAmong) -> None:
    """peft takes a head's name for a regular expression, and for any end of another's: where an adapter would
    be left out for it, or another module trained, nothing is written.
    """
    with scratch_folder() as folder:
        try:
            ll.export_peft(trained(case, case.build()), folder)
        except ll.CheckpointError as error:
            modules = [name for name, _ in case.build().named_modules() if name != case.head]
            looks = re.compile(rf"(^|.*\.){case.head}($|\..*)")
            alike = [name for name in modules if name.endswith(case.head) or looks.match(name)]
            assert_holds(bool(alike), claim=f"export of {case.names}, {case.head} whole, is refused: {error}")
            return
    assert_travels(case)


class Containers(nn.Sequential):
    """Blocks under the name that the head has, one level down."""

    def __init__(self) -> None:
        inner = nn.Sequential(nn.Sequential(nn.Linear(3, 3)), nn.Sequential(nn.Linear(3, 3)))
        super().__init__(inner, nn.Linear(3, 3))


@claim(stage="save", subject="lora_lite")
def test_a_head_is_not_exported_where_peft_would_take_another_module_for_it() -> None:
    """A container that ends as it does; a layer that its name matches as a regular expression."""
    for model, layer, head, match in (
        (Containers(), r"0\.0\.0", "1", "1: 0.1 ends in the same way"),
        (HeadAmong(("enc_head", "enc.head"), "").build(), "enc_head", "enc.head", "enc.head: enc_head looks"),
        (HeadAmong(("a-b", "a.b"), "").build(), "a-b", "a.b", "a.b: a-b looks"),
    ):
        ll.attach(model, ll.LoRAConfig(r=2, target_names=(layer,)))
        ll.attach(model, ll.FullConfig(target_names=(re.escape(head),)))
        with scratch_folder() as folder:
            with assert_refuses(ll.CheckpointError, match, claim=f"export of {head} whole"):
                ll.export_peft(model, folder / "adapter")
            assert_holds(not list(folder.iterdir()), claim="a refused export has made a folder")


@claim(namings, stage="load", **PEFT)
def test_a_config_names_the_layers_that_it_names_in_peft(case: Naming) -> None:
    """By lists and by regular expressions, exclusions, indices and heads."""
    assert_named_as_in_peft(case.keywords())


@claim(stage="load", subject="lora_lite", needs=("peft",))
def test_patterns_of_front_ends_mean_what_they_mean_in_peft() -> None:
    """What fine-tuning writes by itself, flags and what a name must not have before or after; an index where
    a name stands in full; a head whose name, as a pattern, is a layer's.
    """
    assert_named_as_in_peft({"target_modules": ["layers.0.q", "v"], "layers_to_transform": [1]})
    assert_named_as_in_peft({"target_modules": ["q_proj"], "modules_to_save": ["self.attn"]})
    for targets in ONE:
        assert_named_as_in_peft({"target_modules": targets})
        assert_named_as_in_peft({"target_modules": r".*", "exclude_modules": targets})


@claim(stage="load", subject="lora_lite", needs=("peft",))
def test_patterns_of_ranks_and_heads_mean_what_they_mean_in_peft() -> None:
    """Where they are regular expressions, of which re would try some in too many ways."""
    from peft.utils.other import get_pattern_key

    for pattern in (one for one in ONE if "(?i)" not in one):
        with assert_runs(f"reading rank_pattern {pattern}"):
            ranks = Valued({pattern: 3}, "rank_pattern", len(NAMES))
            got = {name: ranks.get(name, 8) for name in NAMES}
        for name in NAMES:
            wanted = 3 if get_pattern_key([pattern], name) == pattern else 8
            found = f"with rank_pattern {pattern} the rank of {name} is {got[name]}, in peft {wanted}"
            assert_holds(got[name] == wanted, claim=found)
        assert_named_as_in_peft({"target_modules": ".*", "modules_to_save": [pattern]})


def assert_named_as_in_peft(given: dict[str, Any]) -> None:
    """Of each of NAMES, by peft's own check."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    theirs, settings = LoraConfig(**given), Settings(given, "config")
    with assert_runs(f"reading {given}"):
        selection, saved = Selection(settings, "config"), SavedModules(settings, len(NAMES))
    for name in NAMES:
        wanted = bool(check_target_module_exists(theirs, name))
        got = selection(name) and name not in saved
        assert_holds(got == wanted, claim=f"{name} of {given} is named: {got}, in peft: {wanted}")


# What re may try in more ways than there are atoms, and what makes more steps than are taken.
ENDLESS = (
    r"(a*)*b",
    r"(?:a|a+)+b",
    r"(?:(?:a?){9,}){9,}b",
    r"(?i)(?:.*a){5,}b",
    r"(?:.*?)*(?:.*?)*x",
    r"(a*)(a*)(a*)(a*)\1\2b",
    "(?:a|b)+" * 200,
    "(?:a|" * 300 + "b" + ")+" * 300,
    "a*" * 20_000 + "b",
    "(?i)" + "(?=.*a.*)" * 200 + "b",
)


@claim(stage="load", subject="lora_lite")
def test_a_pattern_with_many_ways_is_not_left_to_re() -> None:
    """Of optional parts, alternatives and repeats: `re` tries all ways, where nothing matches, and may take
    years over a name.
    """
    for part in ("a?", "(a|a)", "a{0,1}", "a*"):
        made = compiled(part * 40 + "b", "target_modules")
        found = f"40 × {part} before a b is left to re, which tries all ways in which it could match"
        assert_holds(not isinstance(made, re.Pattern), claim=found)
        assert_holds(not made.match("a" * 40), claim=f"40 × {part} before a b match a name without a b")


@claim(stage="load", subject="lora_lite")
def test_a_pattern_that_could_take_years_is_refused() -> None:
    """In whatever it stands; nothing is matched to find out."""
    for pattern in ENDLESS:
        for name in ("target_modules", "exclude_modules"):
            settings = {"target_modules": ["a"], name: pattern}
            with assert_refuses(ll.CheckpointError, "may take too long", claim=f"{name} of {pattern[:30]!r}"):
                Selection(settings, "config")
        with assert_refuses(ll.CheckpointError, "may take too long", claim=f"a rank of {pattern[:30]!r}"):
            compiled(pattern, "rank_pattern")
