"""IA3 with bypass_mode=True computes another function than it merges to: the bias.

Claim: an_absorbed_adapter_gives_what_it_gave
Measured: off by the gate times the bias (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no.
Fix: scale the product and not the bias, as the merged weight does.
"""

import torch
from lycoris import LycorisNetwork

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.randn(3, 4)
network = LycorisNetwork(base, network_module="ia3", bypass_mode=True)
network.apply_to()
for parameter in network.parameters():
    parameter.data.normal_()
wanted = base(x)
network.restore()
network.merge_to(1.0)
off = float((base(x) - wanted).abs().max())
print(f"the merged output is off by {off:.3g}, of {float(wanted.abs().max()):.3g}")
raise SystemExit(off > 1e-3)
