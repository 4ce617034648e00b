"""DyLoRA with bypass_mode=True fails where it has more than one block.

Claim: attach_works_or_is_refused_clearly
Measured: RuntimeError: mat1 and mat2 shapes cannot be multiplied, in 8 calls (lycoris-lora 4.1.3,
torch 2.13.0). Loud.
Documented: no.
Fix: take as many columns of the up factor as there are rows of the down factor.
"""

import torch
from lycoris.wrapper import LycorisNetwork

base = torch.nn.Sequential(torch.nn.Linear(8, 8))
network = LycorisNetwork(base, network_module="dylora", lora_dim=4, block_size=1, bypass_mode=True)
network.apply_to()
try:
    for _ in range(8):
        base(torch.randn(3, 8))
except RuntimeError as error:
    print(error)
    raise SystemExit(1) from error
