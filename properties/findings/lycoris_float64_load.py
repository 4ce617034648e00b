"""A float64 adapter comes back from its file rounded to float32.

Claim: a_loaded_adapter_trains_on
Measured: off by 5e-8 where float64 rounds at 1e-16 (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no. The file holds float64.
Fix: make the modules of create_lycoris_from_weights in the dtype of the file's tensors.
"""

import torch
from lycoris import LycorisNetwork, create_lycoris_from_weights

torch.manual_seed(0)
base = torch.nn.Sequential(torch.nn.Linear(4, 4)).double()
network = LycorisNetwork(base, network_module="lora", lora_dim=2)
network.apply_to()
for parameter in network.double().parameters():
    parameter.data.normal_()
state = network.state_dict()
network.restore()
loaded, _ = create_lycoris_from_weights(1.0, "", base, weights_sd=state)
down, saved = (net.loras[0].lora_down.weight.double() for net in (loaded, network))
off = float((down - saved).abs().max())
print(f"a loaded tensor is off by {off:.1e}")
raise SystemExit(off > 0)
