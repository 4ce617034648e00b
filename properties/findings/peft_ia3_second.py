"""A second IA3 adapter's feedforward_modules is ignored: it gates the side that the first one gates.

Claim: a_second_adapter_of_other_settings_is_its_own_or_refused
Measured: a gate of 6 outputs where 4 inputs were asked for; its file cannot be loaded alone
(peft 0.21.2, torch 2.13.0). Silent.
Documented: no.
Fix: keep is_feedforward by adapter, or refuse another one.
"""

import torch
from peft import IA3Config, get_peft_model

base = torch.nn.Sequential(torch.nn.Linear(4, 6))
model = get_peft_model(base, IA3Config(target_modules=["0"], feedforward_modules=[]))
model.add_adapter("second", IA3Config(target_modules=["0"], feedforward_modules=["0"]))
sizes = {n.rsplit(".", 1)[1]: p.numel() for n, p in model.named_parameters() if "ia3_l" in n}
print(f"entries of the gates: {sizes}; the second was asked to gate 4 inputs")
raise SystemExit(sizes["second"] != 4)
