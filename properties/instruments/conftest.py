"""What several tests of the suite ask for."""

from types import SimpleNamespace
from typing import Any

import pytest


@pytest.fixture
def asking(pytestconfig: pytest.Config) -> Any:
    """A request of a test that is none: what it leaves is not taken for an outcome of this run."""
    node = SimpleNamespace(nodeid="properties/claims/test_it.py::test_it[lora]", user_properties=[])
    return SimpleNamespace(config=pytestconfig, node=node)
