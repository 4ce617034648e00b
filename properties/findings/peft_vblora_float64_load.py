"""On a float64 base a VB-LoRA adapter with save_only_topk_weights=True cannot be loaded.

Claim: a_loaded_adapter_trains_on
Measured: RuntimeError: scatter(): Expected self.dtype to be equal to src.dtype (peft 0.21.2, torch
2.13.0). Loud.
Documented: no.
Fix: make the logits that are scattered into in the dtype of what the file holds.
"""

import torch
from peft import VBLoRAConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

config = VBLoRAConfig(
    r=2, num_vectors=8, topk=2, vector_length=2, target_modules=["0"], save_only_topk_weights=True
)
one, other = (get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4).double()), config) for _ in "12")
try:
    set_peft_model_state_dict(other, get_peft_model_state_dict(one))
except RuntimeError as error:
    print(error)
    raise SystemExit(1) from None
