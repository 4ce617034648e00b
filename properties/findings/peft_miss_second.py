"""A second MiSS adapter with another init_weights is computed as the first one is, and fails.

Claim: a_second_adapter_of_other_settings_is_its_own_or_refused
Measured: RuntimeError at the first call, for each of three pairs (peft 0.21.2, torch 2.13.0). Loud.
Documented: no.
Fix: keep miss_fn by adapter, or refuse another one.
"""

import torch
from peft import MissConfig, get_peft_model

failing = []
for first, second in ((True, "bat"), ("bat", True), ("mini", True)):
    configs = [MissConfig(r=2, mini_r=2, init_weights=i, target_modules=["0"]) for i in (first, second)]
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 8)), configs[0])
    model.add_adapter("second", configs[1])
    model.set_adapter("second")
    try:
        model(torch.randn(3, 4))
    except RuntimeError as error:
        failing.append(f"{second} after {first}: {error}")
print(*failing, sep="\n")
raise SystemExit(bool(failing))
