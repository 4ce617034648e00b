"""A second VeRA, PVeRA or RandLoRA adapter of a lower rank is taken, and fails at the first call.

Claim: a_second_adapter_of_other_settings_is_its_own_or_refused
Measured: RuntimeError: the size of tensor a (2) must match the size of tensor b (4), in each
(peft 0.21.2, torch 2.13.0). Loud.
Documented: no: a higher rank is refused with "loading the adapters in reverse order may solve this".
Fix: take the first r rows and columns of the shared projections, as is done with the widths.
"""

import torch
from peft import PveraConfig, RandLoraConfig, VeraConfig, get_peft_model

failing = []
for kind in (VeraConfig, PveraConfig, RandLoraConfig):
    first, second = (kind(r=r, target_modules=["0"]) for r in (4, 2))
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 12)), first)
    model.add_adapter("second", second)
    model.set_adapter("second")
    try:
        model.eval()(torch.randn(3, 8))
    except RuntimeError as error:
        failing.append(f"{kind.__name__}: {error}")
print(*failing, sep="\n")
raise SystemExit(bool(failing))
