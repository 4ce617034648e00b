"""OFT takes a block size of 1, of which the rotation is the identity: nothing trains.

Claim: the_base_does_not_train
Measured: the one trained tensor has no entries (peft 0.21.2, torch 2.13.0). Silent.
Documented: no: OFTConfig asks for a block size that divides the width.
Fix: refuse oft_block_size=1, and an r equal to the width, which comes to the same.
"""

import torch
from peft import OFTConfig, get_peft_model

config = OFTConfig(r=0, oft_block_size=1, target_modules=["0"])
model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
entries = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
print(f"{entries} entries train")
raise SystemExit(entries == 0)
