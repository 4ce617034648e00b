"""The report of what was measured."""

from properties.audit.verdict import Measured, table

__all__ = ["Measured", "table"]
