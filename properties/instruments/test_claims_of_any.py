"""Each claim about every library is seen red: on peft's LoRA with one thing made wrong."""

import pytest
from hypothesis import HealthCheck, Phase, settings

from properties.instruments import faults_of_any, faults_of_formulas, faults_of_training
from properties.judging.assertions import Violation
from properties.judging.claim import load_claims_of_any

pytestmark = pytest.mark.instruments

METHOD = "peft:lora"
# Of what that has not.
OTHERS = dict.fromkeys(faults_of_training.DATA, "peft:lora+init_lora_weights=eva")
FAULTS = faults_of_any.FAULTS | faults_of_formulas.FAULTS | faults_of_training.FAULTS
FEW = settings(
    max_examples=50,
    database=None,
    derandomize=True,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", FAULTS)
def test_a_claim_of_any_is_seen_red(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its fault inside it breaks; that it holds without one is asked elsewhere."""
    FAULTS[name](monkeypatch)
    with pytest.raises(Violation):
        load_claims_of_any()[name].run(OTHERS.get(name, METHOD), FEW)


def test_each_claim_has_its_fault() -> None:
    assert set(FAULTS) == set(load_claims_of_any())
