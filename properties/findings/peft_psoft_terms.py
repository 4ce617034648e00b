"""PSOFT with num_cayley_neumann_terms 3 computes what 4 does.

Claim: the_output_is_the_formulas
Measured: 3 and 4 give the same bits; 2 gives I + 2 Q for I + Q (peft 0.21.2, torch 2.13.0). Silent.
Documented: no.
Fix: (I + Q) times the first terms - 1 powers of Q, for every number of terms.
"""

import torch
from peft import PsoftConfig, get_peft_model

torch.manual_seed(0)
x, q, outputs = torch.randn(3, 6), torch.randn(6), []
for terms in (3, 4):
    torch.manual_seed(0)
    base = torch.nn.Sequential(torch.nn.Linear(6, 6))
    kept = {"use_cayley_neumann": True, "num_cayley_neumann_terms": terms, "cayley_neumann_eps": None}
    model = get_peft_model(base, PsoftConfig(r=4, target_modules=["0"], **kept))
    base[0].psoft_R["default"].weight.data.copy_(q)
    outputs.append(model(x).detach())
print(f"3 and 4 terms: {'the same' if torch.equal(*outputs) else 'different'}")
raise SystemExit(torch.equal(*outputs))
