"""The report of what was measured."""

from properties.audit.matrix import matrix
from properties.audit.verdict import Measured, table

__all__ = ["Measured", "matrix", "table"]
