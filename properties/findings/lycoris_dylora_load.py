"""A DyLoRA adapter comes back from its file as another one.

Claim: a_loaded_adapter_gives_what_was_saved
Measured: the output of what was loaded is off by as much as the update is large (lycoris-lora 4.1.3, torch
2.13.0). Silent.
Documented: no.
Fix: read the file back into the lists that it was written from.
"""

import torch
from lycoris import LycorisNetwork, create_lycoris_from_weights

base, x = torch.nn.Sequential(torch.nn.Linear(8, 8)), torch.randn(3, 8)
network = LycorisNetwork(base, network_module="dylora", lora_dim=4, alpha=1, block_size=2)
network.apply_to()
for parameter in network.parameters():
    parameter.data.normal_()
network.eval()
wanted, state = base(x), network.state_dict()
network.restore()
loaded, _ = create_lycoris_from_weights(1.0, "", base, weights_sd=state)
loaded.apply_to()
off = float((base(x) - wanted).abs().max())
print(f"the output of what was loaded is off by {off:.3g}, of {float(wanted.abs().max()):.3g}")
raise SystemExit(off > 1e-3)
