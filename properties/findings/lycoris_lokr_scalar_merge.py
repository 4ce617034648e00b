"""A merged LoKr adapter with use_scalar=True is not what it was: the scalar is left out.

Claim: an_absorbed_adapter_gives_what_it_gave
Measured: the merged update is twice the adapter's at a scalar of 0.5 (lycoris-lora 4.1.3, torch
2.13.0). Silent.
Documented: no.
Fix: multiply by self.scalar in get_diff_weight too.
"""

import torch
from lycoris import LycorisNetwork

base, x = torch.nn.Sequential(torch.nn.Linear(4, 4)), torch.randn(3, 4)
plain = base(x)
network = LycorisNetwork(base, network_module="lokr", lora_dim=2, use_scalar=True)
network.apply_to()
for parameter in network.parameters():
    parameter.data.normal_()
network.loras[0].scalar.data.fill_(0.5)
wanted = base(x) - plain
network.restore()
network.merge_to(1.0)
ratio = float((base(x) - plain).norm() / wanted.norm())
print(f"the merged update is {ratio:.3g} times the adapter's")
raise SystemExit(abs(ratio - 1) > 1e-3)
