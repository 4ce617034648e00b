"""A LoKr or GLoRA adapter with rs_lora=True comes back from its file with another scale.

Claim: a_loaded_adapter_gives_what_was_saved
Measured: the update shrinks by the square root of dim, 2 at dim 4 (lycoris-lora 4.1.3, torch 2.13.0).
Silent.
Documented: no.
Fix: save alpha as the scale has it, as LoCon does with its own rs_lora, or save the setting.
"""

import torch
from lycoris import LycorisNetwork, create_lycoris_from_weights

base, x = torch.nn.Sequential(torch.nn.Linear(8, 8)), torch.randn(3, 8)
plain = base(x)
network = LycorisNetwork(base, network_module="glora", lora_dim=4, alpha=1, rs_lora=True)
network.apply_to()
for parameter in network.parameters():
    parameter.data.normal_()
wanted, state = base(x) - plain, network.state_dict()
network.restore()
loaded, _ = create_lycoris_from_weights(1.0, "", base, weights_sd=state)
loaded.apply_to()
ratio = float((base(x) - plain).norm() / wanted.norm())
print(f"the loaded update is {ratio:.3g} times what was saved")
raise SystemExit(abs(ratio - 1) > 1e-3)
