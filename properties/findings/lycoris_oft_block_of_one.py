"""Diag-OFT takes a lora_dim that leaves blocks of one, and then trains nothing.

Claim: every_tensor_learns_within_two_steps
Measured: the gradient of all blocks is 0 (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no.
Fix: refuse it: a rotation of one dimension is none.
"""

import torch
from lycoris.wrapper import LycorisNetwork

base = torch.nn.Sequential(torch.nn.Linear(8, 2)).requires_grad_(False)
network = LycorisNetwork(base, network_module="diag-oft", lora_dim=2)
network.apply_to()
base(torch.randn(3, 8)).square().sum().backward()
gradient = network.loras[0].oft_blocks.grad
print(f"blocks {tuple(gradient.shape)}, largest gradient {float(gradient.abs().max())}")
raise SystemExit(not gradient.any())
