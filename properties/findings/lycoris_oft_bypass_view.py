"""Diag-OFT with bypass_mode=True fails at a multiplier other than 1, on some shapes.

Claim: a_multiplier_is_continuous
Measured: RuntimeError: view size is not compatible with input tensor's size and stride (lycoris-lora 4.1.3,
torch 2.13.0). Loud.
Documented: no.
Fix: reshape in the place of view.
"""

import torch
from lycoris.wrapper import LycorisNetwork

base = torch.nn.Sequential(torch.nn.Linear(2, 4))
network = LycorisNetwork(base, network_module="diag-oft", lora_dim=2, bypass_mode=True)
network.apply_to()
network.set_multiplier(0.5)
try:
    base(torch.randn(3, 2))
except RuntimeError as error:
    print(error)
    raise SystemExit(1) from error
