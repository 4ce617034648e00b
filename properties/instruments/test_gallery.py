"""The gallery of failures: each is still noticed, and the page is what the command writes."""

import pytest

from properties.gallery import PAGE, RECORD, Failure, linked, masked, printed

pytestmark = pytest.mark.instruments


@pytest.mark.parametrize("failure", RECORD, ids=lambda failure: failure.mutant)
def test_the_page_shows_what_the_claim_prints(failure: Failure) -> None:
    """But for figures, which are a machine's; twelve lines are enough for each."""
    (told,) = [part for part in PAGE.read_text("utf-8").split("\n## ") if failure.mutant in part]
    said = printed(failure)
    assert masked(said) in masked(told)
    for text in (failure.title, *failure.seen.split(), *failure.green.split(), *map(linked, failure.record)):
        assert text in told
    prose = told.partition("```")[0]
    assert len([line for line in prose.splitlines() if line]) <= 12
    assert all((PAGE.parent / place).is_file() for place in failure.record if "#" not in place)
