"""A built-in variant has all that is judged by; what a user's variant lacks is printed as what its author
could add.
"""

import re

import pytest

import lora_lite as ll
from properties.audit import missing
from properties.judging import needs, peft_layers
from properties.judging.claim import Claim, load_claims, register
from properties.judging.outcome import NOT_APPLICABLE, NOT_JUDGED
from properties.oracles import ORACLES
from strategies.options import BUILT_IN

pytestmark = pytest.mark.instruments


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_built_in_variant_lacks_nothing(name: str) -> None:
    """Oracle, reference and its hash, peer or a sentence why none, silent failures, bounds."""
    assert missing.of(ll.VARIANTS[name]) == []
    reference = ll.VARIANTS[name].reference
    assert reference is not None
    assert reference.titles
    if (code := reference.code) is not None:
        assert re.fullmatch(r"v\d[\w.]*|[0-9a-f]{7,40}", code.revision)
        assert re.fullmatch("[0-9a-f]{64}", str(code.sha256))


@pytest.mark.parametrize("what", ["no oracle", "no reference", "no peer", "no silent failures"])
def test_what_is_missing_is_told(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by itself."""
    variant = ll.VARIANTS["hra"]
    if what == "no oracle":
        monkeypatch.delitem(ORACLES, "hra")
    elif what == "no reference":
        monkeypatch.setattr(variant, "reference", None)
    elif what == "no peer":
        monkeypatch.delitem(peft_layers.PEFT, "hra")
    else:
        monkeypatch.setattr(missing, "load_catalogue", dict)
    told = [one.what for one in missing.of(variant)]
    assert told == [what]


def test_no_peer_is_excused_that_there_is() -> None:
    assert not set(peft_layers.NO_PEER) & set(peft_layers.PEFT)
    assert needs.NEEDS["peer"].missing(ll.AntiPaSTO) == peft_layers.NO_PEER["antipasto"]


def test_what_lacks_a_package_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a method and of the library; what is about no such method stays not applicable."""
    monkeypatch.setitem(needs.MACHINE, "bitsandbytes", lambda: "bitsandbytes is not installed")
    for name, variant, state in (
        ("an_adapter_on_bitsandbytes_agrees_with_the_oracle", ll.LoRA, NOT_JUDGED),
        ("an_eight_bit_weight_is_read_as_numbers", None, NOT_JUDGED),
        ("an_adapter_on_four_bits_agrees_with_the_oracle", ll.EVA, NOT_APPLICABLE),
    ):
        assert load_claims()[name].standing(variant).state == state


def test_a_claim_about_the_library_needs_nothing_of_a_method() -> None:
    def check() -> None:
        """Nothing."""

    with pytest.raises(ValueError, match=r"found the needs \['oracle'\], wanted some of compiler"):
        register(Claim("an_odd_one", check, None, "init", needs=("oracle",)))
