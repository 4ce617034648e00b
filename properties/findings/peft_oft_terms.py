"""OFT with num_cayley_neumann_terms 3 computes what 4 does, and with 2 no truncation of the series.

Claim: the_output_is_the_formulas
Measured: 3 and 4 give the same bits; 2 gives I + 2 Q for I + Q (peft 0.21.2, torch 2.13.0). Silent.
Documented: "Number of Cayley-Neumann terms to use. Higher number results in less approximation error."
Fix: (I + Q) times the first terms - 1 powers of Q, for every number of terms.
"""

import torch
from peft import OFTConfig, get_peft_model

torch.manual_seed(0)
q, R = torch.randn(1, 6), {}
for terms in (2, 3, 4):
    base = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False))
    torch.nn.init.eye_(base[0].weight)
    config = OFTConfig(oft_block_size=4, r=0, num_cayley_neumann_terms=terms, target_modules=["0"])
    model = get_peft_model(base, config)
    base[0].oft_R["default"].weight.data.copy_(q)
    R[terms] = model(torch.eye(4)).detach()
print(f"3 and 4 terms: {'the same' if torch.equal(R[3], R[4]) else 'different'}")
raise SystemExit(torch.equal(R[3], R[4]))
