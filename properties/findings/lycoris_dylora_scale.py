"""DyLoRA scales by alpha over the number of its blocks, and not of its ranks: saved, it is another adapter.

Claim: the_output_is_the_formulas
Measured: the update is 4 times its file's at block size 4 (lycoris-lora 4.1.3, torch 2.13.0). Silent.
Documented: no. The paper has alpha over the rank b; the file keeps alpha, and its loader divides by the rank.
Fix: alpha / ((b + 1) * block_size) in get_weight.
"""

import torch
from lycoris.wrapper import LycorisNetwork

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(6, 6)).requires_grad_(False), torch.randn(3, 6)
plain = base(x)
network = LycorisNetwork(base, network_module="dylora", lora_dim=4, block_size=4, alpha=4)
network.apply_to()
torch.nn.init.normal_(network.loras[0].up_list[0])
saved = network.loras[0].custom_state_dict()
up, down, alpha = (saved[name] for name in ("lora_up.weight", "lora_down.weight", "alpha"))
of_file = x @ (alpha / down.shape[0] * up @ down).mT
ratio = float((base(x) - plain).norm() / of_file.norm())
print(f"the update is {ratio:.3g} times that of its file")
raise SystemExit(abs(ratio - 1) > 1e-3)
