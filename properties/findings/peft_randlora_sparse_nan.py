"""RandLoRA with sparse or very_sparse gives NaN where the bases that it draws are all zero.

Claim: a_fresh_adapter_gives_the_base_output
Measured: NaN for 9 and 8 of 200 keys at r=1 on 8 x 8 (peft 0.21.2, torch 2.13.0). Silent: at init already.
Documented: no: that bases are sparse is, not that one may be empty and is then divided by its spread of 0.
Fix: divide by the spread that the law of the entries has, and not by the drawn one.
"""

import torch
from peft import RandLoraConfig, get_peft_model

bad = {}
for kind in ("sparse", "very_sparse"):
    bad[kind] = 0
    for key in range(200):
        config = RandLoraConfig(r=1, projection_prng_key=key, target_modules=["0"], **{kind: True})
        model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(8, 8)), config)
        bad[kind] += bool(model(torch.ones(1, 8)).isnan().any())
print(f"NaN for {bad} of 200 keys")
raise SystemExit(any(bad.values()))
