"""A built-in variant has all that is judged by; what a user's variant lacks is printed as what its author
could add.
"""

import pytest

import lora_lite as ll
from properties.audit import missing
from properties.judging import needs, peft_layers
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
    assert reference.code is None or reference.code.sha256


@pytest.mark.parametrize("what", ["no oracle", "no reference", "no peer", "no silent failures"])
def test_what_is_missing_is_told(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by itself; an identity to rounding loses its bound with its oracle."""
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
    assert told == ([what, "no bound for its identity"] if what == "no oracle" else [what])


def test_no_peer_is_excused_that_there_is() -> None:
    assert not set(peft_layers.NO_PEER) & set(peft_layers.PEFT)
    assert needs.NEEDS["peer"].missing(ll.AntiPaSTO) == peft_layers.NO_PEER["antipasto"]
