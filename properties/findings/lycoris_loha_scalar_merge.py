"""A merged LoHa adapter with use_scalar=True is not what it was: the scalar is left out.

Claim: the_merged_weight_is_the_formulas
Measured: the merged update is twice the adapter's at scalar 0.5 (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no.
Fix: multiply by the scalar in get_diff_weight, as forward does.
"""

import torch
from lycoris.wrapper import LycorisNetwork

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(6, 6)).requires_grad_(False), torch.randn(3, 6)
plain = base(x)
# alpha = dim, so that the scale, which goes in twice, is 1.
network = LycorisNetwork(base, network_module="loha", lora_dim=2, alpha=2, use_scalar=True)
network.apply_to()
network.loras[0].scalar.data.fill_(0.5)
update = base(x) - plain
network.restore()
network.merge_to(1.0)
ratio = float((base(x) - plain).norm() / update.norm())
print(f"the merged update is {ratio:.3g} times the adapter's")
raise SystemExit(abs(ratio - 1) > 1e-3)
