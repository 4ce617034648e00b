"""Diag-OFT and BOFT with bypass_mode=True rotate the bias too, which without it and merged they do not.

Claim: the_output_is_the_formulas
Measured: off by 0.37 and 0.21 of the largest output (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no: bypass_mode is another way to compute the same.
Fix: take the bias off before the rotation and add it afterwards.
"""

import torch
from lycoris.wrapper import LycorisNetwork

x, worst = torch.randn(3, 8), []
for kind in ("diag-oft", "boft"):
    outputs = []
    for bypass in (False, True):
        torch.manual_seed(0)
        base = torch.nn.Sequential(torch.nn.Linear(8, 8)).requires_grad_(False)
        network = LycorisNetwork(base, network_module=kind, lora_dim=4, bypass_mode=bypass)
        network.apply_to()
        torch.nn.init.normal_(network.loras[0].oft_blocks)
        outputs.append(base(x))
    worst.append(float((outputs[1] - outputs[0]).abs().max() / outputs[0].abs().max()))
print(f"off by {worst[0]:.2g} (Diag-OFT) and {worst[1]:.2g} (BOFT) of the largest output")
raise SystemExit(min(worst) > 1e-3)
