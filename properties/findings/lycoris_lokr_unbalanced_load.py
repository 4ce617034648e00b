"""A LoKr adapter with unbalanced_factorization=True cannot be loaded, but on some shapes.

Claim: a_loaded_adapter_gives_what_was_saved
Measured: RuntimeError: The size of tensor a (2) must match the size of tensor b (4), on 8 x 8
(lycoris-lora 4.1.3, torch 2.13.0). Loud.
Documented: no.
Fix: keep the factorisation in the file, or read it off the shapes there.
"""

import torch
from lycoris import LycorisNetwork, create_lycoris_from_weights

base = torch.nn.Sequential(torch.nn.Linear(8, 8))
network = LycorisNetwork(base, network_module="lokr", lora_dim=2, unbalanced_factorization=True)
network.apply_to()
state = network.state_dict()
network.restore()
try:
    create_lycoris_from_weights(1.0, "", base, weights_sd=state)
except RuntimeError as error:
    print(error)
    raise SystemExit(1) from error
