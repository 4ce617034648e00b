"""T-LoRA with bypass_mode=True gives one dimension more for a single vector.

Claim: a_row_depends_on_itself_alone
Measured: (8,) in, (1, 8) out (lycoris-lora 4.1.3, torch 2.13.0). Silent until shapes meet.
Documented: no.
Fix: multiply by the mask of ranks without a dimension of its own.
"""

import torch
from lycoris.wrapper import LycorisNetwork

base = torch.nn.Sequential(torch.nn.Linear(8, 8))
LycorisNetwork(base, network_module="tlora", lora_dim=4, bypass_mode=True).apply_to()
found = tuple(base(torch.randn(8)).shape)
print(f"(8,) in, {found} out")
raise SystemExit(found != (8,))
