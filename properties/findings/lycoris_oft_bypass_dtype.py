"""Diag-OFT and BOFT with bypass_mode=True make a bfloat16 model give float32.

Claim: a_cast_to_bfloat16_works
Measured: both give torch.float32 for bfloat16, and without bypass_mode bfloat16 (lycoris-lora 4.1.3,
torch 2.13.0). Silent until the next layer.
Documented: no.
Fix: cast the output to the input's dtype.
"""

import torch
from lycoris.wrapper import LycorisNetwork

given = {}
for kind in ("diag-oft", "boft"):
    base = torch.nn.Sequential(torch.nn.Linear(8, 8)).bfloat16()
    network = LycorisNetwork(base, network_module=kind, lora_dim=4, bypass_mode=True)
    network.apply_to()
    network.to(torch.bfloat16)
    given[kind] = base(torch.randn(3, 8).bfloat16()).dtype
print(f"a bfloat16 model gives {given}")
raise SystemExit(any(dtype != torch.bfloat16 for dtype in given.values()))
