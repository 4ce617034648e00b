"""A merged LoKr adapter is not what it was: the scale goes in twice.

Claim: the_merged_weight_is_the_formulas
Measured: off by a factor of alpha / dim in the update (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no.
Fix: get_diff_weight multiplies by the scale what get_weight has scaled already.
"""

import torch
from lycoris.wrapper import LycorisNetwork

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(16, 16)).requires_grad_(False), torch.randn(3, 16)
plain = base(x)
network = LycorisNetwork(base, network_module="lokr", lora_dim=1, alpha=3)
network.apply_to()
torch.nn.init.normal_(network.loras[0].lokr_w2_b)
update = base(x) - plain
network.restore()
network.merge_to(1.0)
ratio = float((base(x) - plain).norm() / update.norm())
print(f"the merged update is {ratio:.3g} times the adapter's, alpha / dim is 3")
raise SystemExit(abs(ratio - 1) > 1e-3)
