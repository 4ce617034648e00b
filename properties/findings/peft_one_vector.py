"""C3A, GraLoRA and AdaMSS fail on inputs that nn.Linear takes.

Claim: a_row_depends_on_itself_alone
Measured: no rows (C3A) and a single vector (GraLoRA, AdaMSS) raise from inside torch (peft 0.21.2, torch
2.13.0). Loud.
Documented: no.
Fix: flatten the leading dimensions, and give no rows back for none.
"""

import torch
from peft import AdamssConfig, C3AConfig, GraloraConfig, get_peft_model

failing = []
for config, rows in (
    (C3AConfig(block_size=2, target_modules=["0"]), (0, 4)),
    (GraloraConfig(r=2, target_modules=["0"]), (4,)),
    (AdamssConfig(r=2, num_subspaces=2, target_modules=["0"]), (4,)),
):
    model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(4, 4)), config)
    try:
        model(torch.ones(rows))
    except Exception as error:
        failing.append(f"{config.peft_type.value} on {rows}: {type(error).__name__}")
print(failing)
raise SystemExit(bool(failing))
