"""Full, saved while it is merged, comes back as nothing.

Claim: an_adapter_saved_while_merged_is_the_same
Measured: the loaded model is off by all of the update (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no.
Fix: take the difference to the weight that onfly_merge has put aside, or refuse.
"""

import torch
from lycoris import LycorisNetwork, create_lycoris_from_weights

base, fresh, x = torch.nn.Linear(8, 8), torch.nn.Sequential(torch.nn.Linear(8, 8)), torch.randn(3, 8)
fresh[0].load_state_dict(base.state_dict())
base, plain = torch.nn.Sequential(base), fresh(x)
network = LycorisNetwork(base, network_module="full")
network.apply_to()
network.loras[0].weight.data.add_(torch.randn(8, 8))
wanted = base(x)
network.restore()
network.onfly_merge()
create_lycoris_from_weights(1.0, "", fresh, weights_sd=network.state_dict())[0].apply_to()
off = float((fresh(x) - wanted).norm() / (wanted - plain).norm())
print(f"loaded, the output is off by {off:.3g} times the update")
raise SystemExit(off > 1e-3)
