"""DyLoRA with bypass_mode=True leaves its scale out.

Claim: the_output_is_the_formulas
Measured: the update is the same for alpha 1 and 16 (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no.
Fix: multiply by `scale` in bypass_forward_diff, which computes it and drops it.
"""

import torch
from lycoris.wrapper import LycorisNetwork

x, outputs = torch.randn(3, 6), []
for alpha in (1, 16):
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(6, 6)).requires_grad_(False)
    given = {"lora_dim": 4, "block_size": 4, "alpha": alpha, "bypass_mode": True}
    network = LycorisNetwork(base, network_module="dylora", **given)
    network.apply_to()
    torch.nn.init.normal_(network.loras[0].up_list[0])
    outputs.append(base(x))
print(f"alpha 1 and 16: {'the same' if torch.equal(*outputs) else 'different'}")
raise SystemExit(torch.equal(*outputs))
