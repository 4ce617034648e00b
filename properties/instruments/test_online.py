"""Every reference, opened. Collected where the network is asked for: pytest --online, or -m online."""

from dataclasses import asdict

import pytest

import lora_lite as ll
from properties.audit.links import DRIFT, GONE, PINNED, UNCHECKED, WRONG_TITLE, checked, expected
from properties.audit.report import Link

pytestmark = pytest.mark.online


@pytest.mark.parametrize(
    "link", expected(ll.VARIANTS), ids=lambda link: f"{link.kind}: {link.what}".replace(" ", "_")
)
def test_reference_is_where_it_is_said_to_be(link: Link, request: pytest.FixtureRequest) -> None:
    """The paper under a title that is known, the file at its revision with its recorded hash.

    A file may drift after that.
    """
    found = checked(link)
    request.node.user_properties.append(("link", asdict(found)))
    if found.status == UNCHECKED:
        pytest.skip(f"UNCHECKED {found.url}: {found.why}. Run it where that can be reached.")
    wrong = {GONE, WRONG_TITLE, DRIFT} if link.kind == PINNED else {GONE, WRONG_TITLE}
    assert found.status not in wrong, f"{found.what}: {found.status}, {found.why}"
