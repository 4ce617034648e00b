"""T-LoRA fails in a bfloat16 model.

Claim: attach_works_or_is_refused_clearly
Measured: RuntimeError: expected m1 and m2 to have the same dtype (lycoris-lora 4.1.3, torch 2.13.0). Loud.
Documented: no.
Fix: cast the copies that it keeps of its start, which to() leaves in float32, when they meet the others.
"""

import torch
from lycoris.wrapper import LycorisNetwork

base = torch.nn.Sequential(torch.nn.Linear(8, 8)).bfloat16()
network = LycorisNetwork(base, network_module="tlora", lora_dim=4)
network.apply_to()
network.to(torch.bfloat16)
try:
    base(torch.randn(3, 8).bfloat16())
except RuntimeError as error:
    print(f"a call fails with RuntimeError: {error}")
    raise SystemExit(1) from None
