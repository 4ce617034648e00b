"""Layers that attach has to treat in a way of their own: output heads, layers that are never called, layers
that are no nn.Linear.
"""

import re
from typing import Any

from torch import Tensor, nn

import lora_lite as ll
from properties.judging.assertions import assert_refuses
from properties.judging.claim import claim
from properties.judging.fixed_models import simple_config
from properties.judging.scopes import assert_targets
from strategies.scopes import WIDTH, tree


def decoder(*, tied: bool = False) -> Any:
    """Two blocks, an embedding, and a head that the model tells of."""

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, WIDTH)
            self.layers = nn.ModuleList(tree({"up": (WIDTH, 6), "down": (6, WIDTH)}) for _ in range(2))
            self.lm_head = nn.Linear(WIDTH, 9, bias=False)
            if tied:
                self.lm_head.weight = self.embed.weight

        def get_output_embeddings(self) -> nn.Module:
            return self.lm_head

    return Decoder()


BODY = ("layers.0.up", "layers.0.down", "layers.1.up", "layers.1.down")


@claim(stage="scope", subject="lora_lite")
def test_the_output_head_is_adapted_only_when_named() -> None:
    """Tied to the embedding or not."""
    for tied in (False, True):
        assert_targets(decoder(tied=tied), BODY)
        assert_targets(decoder(tied=tied), BODY[2:], exclude_names="layers.0.*")
        assert_targets(decoder(tied=tied), ["lm_head"], target_names="lm_head")
        assert_targets(decoder(tied=tied), [*BODY, "lm_head"], target_names=".*")


@claim(stage="scope", subject="lora_lite")
def test_selections_by_name_role_and_layer_all_have_to_hold() -> None:
    """Two or three of them at once; if nothing is left it is refused."""
    assert_targets(
        decoder(), ["layers.1.up"], target_names=("up", "down"), target_roles="reader", layers=(1,)
    )
    assert_targets(decoder(), ["layers.0.down"], exclude_names="layers.1.*", target_roles=("writer",))
    assert_targets(decoder(), ["layers.0.up"], target_roles="reader", layers=(0,))
    tried = "attach with target_names='up', target_roles='writer', where up reads"
    with assert_refuses(ll.TargetError, "No layer fits all of", claim=tried):
        ll.attach(decoder(), simple_config("lora", target_names="up", target_roles="writer"))


class Packed(nn.Module):
    """Linear by its widths alone."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :1].expand(*x.shape[:-1], self.out_features)


@claim(stage="scope", subject="lora_lite")
def test_whatever_has_in_and_out_features_is_a_linear_layer() -> None:
    """But for a layer of two inputs."""
    assert_targets(nn.Sequential(Packed(4, 6), nn.Tanh(), nn.Linear(6, 2), nn.Bilinear(2, 2, 2)), ["0", "2"])


@claim(stage="scope", subject="lora_lite")
def test_the_out_projection_of_multihead_attention_is_refused() -> None:
    """It is never called, so that an adapter there would do nothing."""
    inside = nn.Sequential(nn.Module())
    inside.get_submodule("0").add_module("attn", nn.MultiheadAttention(4, 2))
    for name, model in (("out_proj", nn.MultiheadAttention(4, 2)), ("0.attn.out_proj", inside)):
        match = f"^{re.escape(name)}: nn.MultiheadAttention never calls"
        for pattern in ((), "out_proj"):
            tried = f"attach to {name} of nn.MultiheadAttention with target_names={pattern!r}"
            with assert_refuses(ll.TargetError, match, claim=tried):
                ll.attach(model, simple_config("lora", target_names=pattern))
    other = nn.ModuleDict({"attn": nn.MultiheadAttention(4, 2), "up": nn.Linear(4, 4)})
    assert_targets(other, ["up"], exclude_names=r"attn\.out_proj")


@claim(stage="scope", subject="lora_lite")
def test_an_out_projection_under_another_name_is_refused() -> None:
    """The layer counts, and not what it is called."""
    attention = nn.MultiheadAttention(4, 2)
    model = nn.ModuleDict({"proj": attention.out_proj, "attn": attention})
    with assert_refuses(ll.TargetError, "never calls", claim="attach to proj, which is attn.out_proj too"):
        ll.attach(model, ll.LoRAConfig(r=1))
