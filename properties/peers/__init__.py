"""Other libraries' adapters, run on the same tensors: a second opinion by people who never saw the oracles here.

A peer is imported inside functions alone, so that collecting the suite costs nothing and works without it.
"""
