"""onfly_merge() of a network that is merged adds the update again, and what was kept of the base is gone.

Claim: merging_twice_changes_nothing_more
Measured: the weight is off by all of the update (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no.
Fix: do nothing, or refuse, where the network is merged.
"""

import torch
from lycoris.wrapper import LycorisNetwork

torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(8, 8)).requires_grad_(False)
start = base[0].weight.detach().clone()
network = LycorisNetwork(base, network_module="lora", lora_dim=4)
for parameter in network.loras[0].parameters():
    parameter.detach().add_(0.1 * torch.randn(parameter.shape))
network.onfly_merge()
merged = base[0].weight.detach().clone()
network.onfly_merge()
off = (base[0].weight - merged).norm() / (merged - start).norm()
print(f"merged twice the weight is off by {off.item():.3g} times the update")
raise SystemExit(off.item() > 1e-3)
