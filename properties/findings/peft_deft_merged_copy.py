"""A model with a merged DEFT adapter cannot be copied: the merged weight carries its graph.

Claim: a_merged_adapter_can_be_copied
Measured: RuntimeError: Only Tensors created explicitly by the user support the deepcopy protocol
(peft 0.21.2, torch 2.13.0). Loud.
Documented: no.
Fix: merge under no_grad, or detach what is kept.
"""

import torch
from peft import DeftConfig, get_peft_model

config = DeftConfig(r=2, target_modules=["0"])
model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
model.merge_adapter()
try:
    torch.optim.swa_utils.AveragedModel(model)
except RuntimeError as error:
    print(f"a copy: {error}")
    raise SystemExit(1) from None
