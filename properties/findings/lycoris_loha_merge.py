"""A merged LoHa adapter is not what it was: the scale goes in twice.

Claim: an_absorbed_adapter_gives_what_it_gave
Measured: off by a factor of alpha / dim in the update (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no.
Fix: scale in get_weight or in get_diff_weight, and not in both.
"""

import torch
from lycoris import LycorisNetwork

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.randn(3, 4)
network = LycorisNetwork(base, network_module="loha", lora_dim=2, alpha=1)
network.apply_to()
for parameter in network.parameters():
    parameter.data.normal_()
wanted, plain = base(x), torch.nn.functional.linear(x, base[0].weight, base[0].bias)
network.restore()
network.merge_to(1.0)
ratio = float((base(x) - plain).norm() / (wanted - plain).norm())
print(f"the merged update is {ratio:.3g} times the adapter's")
raise SystemExit(abs(ratio - 1) > 1e-3)
