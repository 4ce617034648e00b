"""LoKr with bypass_mode=True fails on an empty batch, which nn.Linear takes.

Claim: a_row_depends_on_itself_alone
Measured: RuntimeError: cannot reshape tensor of 0 elements (lycoris-lora 4.1.3, torch 2.13.0). Loud.
Documented: no.
Fix: say the size that reshape is left to find.
"""

import torch
from lycoris.wrapper import LycorisNetwork

base = torch.nn.Sequential(torch.nn.Linear(8, 8))
LycorisNetwork(base, network_module="lokr", lora_dim=2, bypass_mode=True).apply_to()
try:
    base(torch.randn(0, 8))
except RuntimeError as error:
    print(error)
    raise SystemExit(1) from error
