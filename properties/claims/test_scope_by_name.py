"""Which layers an adapter goes on by their names: exactly those that match, or a refusal that says what does
not.
"""

from torch import nn

import lora_lite as ll
from properties.judging.assertions import assert_holds, assert_refuses
from properties.judging.claim import claim
from properties.judging.fixed_models import simple_config
from properties.judging.scopes import assert_targets, selection
from strategies.scopes import WIDTH, ByName, pattern_text, selections_by_name, tree


@claim(selections_by_name, stage="scope", share=0.5, needs=("no data",), subject="lora_lite")
def test_a_pattern_selects_whole_names_and_whole_dotted_ends(case: ByName) -> None:
    """Any of target_names (all layers where there is none), less any of exclude_names; nothing left is
    refused.
    """
    taken, model = case.taken(), case.build()
    config = simple_config(
        case.variant,
        target_names=tuple(map(pattern_text, case.target_names)),
        exclude_names=tuple(map(pattern_text, case.exclude_names)),
    )
    order = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if taken:
        assert_targets(model, [name for name in order if name in taken], config)
        return
    tried = f"attach with {selection(config)}, which leaves nothing of {case.names}"
    with assert_refuses(ll.TargetError, "No layer fits all of", claim=tried):
        ll.attach(model, config)


@claim(stage="scope", subject="lora_lite")
def test_patterns_are_regular_expressions() -> None:
    """Of whole names or dotted ends, and case counts; what is none is refused by the config."""
    names = dict.fromkeys(
        ("layers.0.q_proj", "layers.1.q_proj", "layers.1.qxproj", "layers.10.q_proj", "up"), (WIDTH, WIDTH)
    )
    assert_targets(tree(names), ["layers.0.q_proj", "layers.1.q_proj"], target_names=r"layers\.\d\.q_proj")
    assert_targets(tree(names), ["layers.1.q_proj", "layers.1.qxproj"], target_names=r"1\.q.proj")
    assert_targets(tree(names), [n for n in names if n != "up"], target_names=r"layers\..*")
    assert_targets(tree(names), ["layers.1.q_proj", "up"], target_names=[r"layers\.[1-9]\.q_proj", "u."])
    assert_targets(tree(names), ["layers.1.q_proj", "up"], target_names=r"up|1\.q_proj")
    with assert_refuses(ll.TargetError, "'UP' matches no", claim="target_names='UP' where there is an 'up'"):
        ll.attach(tree(names), simple_config("lora", target_names="UP"))
    match = r"LoRAConfig.target_names: '\*up' is no regular expression"
    with assert_refuses(ll.ConfigError, match, claim="target_names='*up'"):
        simple_config("lora", target_names="*up")


BLOCKS = {f"layers.{i}.{name}": (WIDTH, WIDTH) for i in range(2) for name in ("up", "down")}


@claim(stage="scope", subject="lora_lite")
def test_what_matches_nothing_is_refused_by_its_name() -> None:
    """The pattern or the index that is at fault, and not those beside it."""
    for match, common in (
        (r"target_names: 'q_proj' matches no linear layer", {"target_names": ("up", "q_proj")}),
        (r"target_names: 'p' matches no linear layer", {"target_names": ("p", "up")}),
        (r"exclude_names: 'q_proj' matches no linear layer", {"exclude_names": ("up", "q_proj")}),
        (r"target_names: 'layer' matches no linear layer", {"target_names": "layer"}),
        (r"target_names: 'embed' matches no linear layer", {"target_names": "embed"}),
        (r"no linear layer has index \[2, 5\]; the model has \[0, 1\]", {"layers": (5, 0, 2)}),
        (r"Linear layers here: layers.0.up, layers.0.down, layers.1", {"target_names": "nothing"}),
        (r"No layer fits all of", {"target_names": "up", "exclude_names": "up"}),
    ):
        model = tree(BLOCKS)
        model.add_module("embed", nn.Embedding(9, WIDTH))
        config = ll.LoRAConfig(r=1, **common)
        with assert_refuses(ll.TargetError, match, claim=f"attach with {selection(config)}"):
            ll.attach(model, config)
    found = "attach to a model without a linear layer"
    with assert_refuses(ll.TargetError, "Tanh has no linear layer", claim=found):
        ll.attach(nn.Tanh(), ll.LoRAConfig(r=1))


@claim(stage="scope", subject="lora_lite")
def test_targets_are_in_the_order_of_the_model() -> None:
    """Whatever the order of the patterns."""
    model = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(12))
    assert_targets(model, map(str, range(12)), target_names=[str(i) for i in reversed(range(12))])


@claim(stage="scope", subject="lora_lite")
def test_a_layer_under_two_names_is_adapted_once() -> None:
    """By either name; left out by one of them it is left out."""
    for common, wanted in (
        ({}, ["a", "c"]),
        ({"target_names": ("a", "b")}, ["a"]),
        ({"target_names": "b"}, ["a"]),
        ({"exclude_names": "b"}, ["c"]),
    ):
        model = tree(dict.fromkeys(("a", "b", "c"), (WIDTH, WIDTH)))
        model.b = model.a
        config = ll.LoRAConfig(r=1, **common)
        assert_targets(model, wanted, config)
        hooks = len(model.get_submodule("a")._forward_hooks)
        found = f"with {selection(config)} the layer under a and b has {hooks} hooks"
        assert_holds(hooks == ("a" in wanted), claim=f"{found}, wanted {int('a' in wanted)}")
