"""LitGPT's LoRAQKVLinear fails on a single vector, which its LoRALinear and nn.Linear take.

Claim: a_row_depends_on_itself_alone
Measured: IndexError: Dimension out of range (litgpt 0.5.13, torch 2.13.0). Loud.
Documented: no.
Fix: flatten the leading dimensions before the convolution.
"""

import torch
from litgpt.lora import LoRAQKVLinear

layer = LoRAQKVLinear(6, 6, head_size=2, n_head=1, n_query_groups=1, r=2, enable_lora=(True, False, True))
try:
    layer(torch.ones(6))
except IndexError as error:
    print(error)
    raise SystemExit(1) from error
