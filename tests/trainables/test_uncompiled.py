import subprocess
import sys

STEPS = """
import sys
import torch
from trainables.uncompiled import uncompiled

def trained(kind):
    weight = torch.nn.Parameter(torch.linspace(-1, 1, 7))
    optimizer = kind([weight], lr=0.1, weight_decay=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        weight.pow(4).sum().backward()
        optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    return weight.detach()

kinds = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
without = [trained(uncompiled(kind)) for kind in kinds]
print("torch._dynamo" in sys.modules)
print([torch.equal(weight, trained(kind)) for weight, kind in zip(without, kinds)])
print("torch._dynamo" in sys.modules)
print(uncompiled(torch.optim.Adam) is torch.optim.Adam)
"""


def test_optimizers_do_the_same_bit_for_bit_without_the_compiler_and_are_left_alone_once_it_is_there():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["False", "[True, True, True]", "True", "True"], done.stderr
