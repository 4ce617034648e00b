"""The training probe: proof that an adapter learns through the path it claims. `python -m properties.probe
--help`.
"""
