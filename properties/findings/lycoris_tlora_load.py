"""A T-LoRA adapter with use_data_init=False comes back from its file as another.

Claim: a_loaded_adapter_gives_what_was_saved
Measured: off by 5 times the update (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no.
Fix: what it starts from is random and taken off at every call: keep it in the file.
"""

import torch
from lycoris import LycorisNetwork, create_lycoris_from_weights

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(8, 8)), torch.randn(3, 8)
plain = base(x)
network = LycorisNetwork(base, network_module="tlora", lora_dim=4, use_data_init=False)
network.apply_to()
for parameter in network.parameters():
    parameter.data.add_(0.1 * torch.randn(parameter.shape))
wanted, state = base(x), network.state_dict()
network.restore()
create_lycoris_from_weights(1.0, "", base, weights_sd=state)[0].apply_to()
off = float((base(x) - wanted).norm() / (wanted - plain).norm())
print(f"loaded, the output is off by {off:.3g} times the update")
raise SystemExit(off > 1e-3)
