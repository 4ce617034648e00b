"""onfly_restore() leaves the merged weight in the base on a CPU.

Claim: unmerging_gives_it_back
Measured: the weight stays off by all of the update (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no.
Fix: .cpu() of a CPU tensor is the same storage: clone what is kept.
"""

import torch
from lycoris import LycorisNetwork

torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(4, 4))
before = base[0].weight.detach().clone()
network = LycorisNetwork(base, network_module="lora", lora_dim=2)
for parameter in network.loras[0].parameters():
    parameter.data.normal_()
network.onfly_merge()
network.onfly_restore()
off = float((base[0].weight - before).abs().max())
print(f"the weight after onfly_restore is off by {off:.3g}")
raise SystemExit(off > 1e-4)
