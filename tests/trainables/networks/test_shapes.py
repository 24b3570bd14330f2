"""Networks built for their shapes alone."""

import subprocess
import sys

import torch
from torch import nn

from trainables.networks import without_memory


def test_what_is_built_has_shapes_and_no_memory_and_the_generator_stays_where_it_was():
    before = torch.get_rng_state()
    with without_memory():
        layer = nn.LSTM(3, 5, bidirectional=True)
        drawn = nn.init.xavier_normal_(torch.empty(4, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert {parameter.device.type for parameter in layer.parameters()} == {"meta"}
    assert layer.weight_hh_l0_reverse.shape == (20, 5)
    assert (drawn.shape, drawn.device.type) == ((4, 2), "meta")
    assert torch.empty(1).device.type == "cpu"


def test_drawing_normal_values_there_does_not_import_the_compiler_of_pytorch():
    code = (
        "import sys, torch; from trainables.networks.shapes import without_memory\n"
        "with without_memory(): torch.nn.init.normal_(torch.empty(3))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
