"""DyLoRA draws a random rank in eval mode too: what is served, and what is merged, changes from call to
call.

Claim: a_second_call_gives_the_same
Measured: 8 calls of one input give 2 outputs, as many as there are blocks (lycoris-lora 4.1.3, torch
2.13.0). Silent.
Documented: no: rank is an argument of get_merged_weight that forward and merge_to leave out.
Fix: draw in training alone; serve and merge the whole rank.
"""

import torch
from lycoris import LycorisNetwork

torch.manual_seed(0)
base, x = torch.nn.Sequential(torch.nn.Linear(8, 8)), torch.randn(3, 8)
network = LycorisNetwork(base, network_module="dylora", lora_dim=4, block_size=2)
network.apply_to()
for parameter in network.parameters():
    parameter.data.normal_()
network.eval()
outputs = {float(base(x).sum()) for _ in range(8)}
print(f"{len(outputs)} different outputs of 8 calls in eval mode")
raise SystemExit(len(outputs) > 1)
