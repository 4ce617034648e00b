"""Diag-OFT and BOFT fail in a float64 model.

Claim: the_output_is_the_formulas
Measured: RuntimeError: expected scalar type Double but found Float (lycoris-lora 4.1.3, torch 2.13.0). Loud.
Documented: no.
Fix: get_r casts one factor of its product to float32: cast both, or what is coarser alone.
"""

import torch
from lycoris.wrapper import LycorisNetwork

failed = []
for kind in ("diag-oft", "boft"):
    base = torch.nn.Sequential(torch.nn.Linear(8, 8)).double().requires_grad_(False)
    network = LycorisNetwork(base, network_module=kind, lora_dim=4)
    network.apply_to()
    network.double()
    try:
        base(torch.randn(3, 8).double())
    except RuntimeError as error:
        failed.append(kind)
        print(f"{kind}: {error}")
raise SystemExit(len(failed) == 2)
