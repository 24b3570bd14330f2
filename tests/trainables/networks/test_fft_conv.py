import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from trainables.errors import NetworkError
from trainables.networks import fft_conv
from trainables.networks.fft_conv import FFTConv1d, Plan, best_block, good_size, good_sizes


def results(module, signal, gradient):
    """Return the output and the gradients of the signal, the weight and the bias."""
    signal = signal.clone().requires_grad_()
    module.zero_grad()
    output = module(signal)
    output.backward(gradient)
    return [output.detach(), signal.grad, module.weight.grad, module.bias.grad]


def direct_twin(module):
    twin = nn.Conv1d(module.in_channels, module.out_channels, module.kernel_size[0], dtype=module.weight.dtype)
    twin.load_state_dict(module.state_dict())
    return nn.Sequential(nn.ConstantPad1d(module.sides, 0.0), twin), twin


def assert_same_as_direct(module, batch, length, relative):
    padded, twin = direct_twin(module)
    signal = torch.randn(batch, module.in_channels, length, dtype=module.weight.dtype)
    gradient = torch.randn_like(padded(signal))
    output = padded(signal.requires_grad_())
    output.backward(gradient)
    expected = [output, signal.grad, twin.weight.grad, twin.bias.grad]
    for found, wanted in zip(results(module, signal.detach(), gradient), expected, strict=True):
        assert found.shape == wanted.shape
        assert (found - wanted).norm() <= relative * wanted.norm() + 1e-12


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    kernel=st.integers(1, 40),
    extra=st.integers(0, 150),
    padding=st.one_of(
        st.integers(0, 50), st.sampled_from(["same", "valid"]), st.tuples(st.integers(0, 50), st.integers(0, 50))
    ),
)
def test_output_and_gradients_equal_those_of_conv1d_in_double_precision(batch, channels, kernel, extra, padding):
    module = FFTConv1d(*channels, kernel, padding=padding, dtype=torch.float64)
    assert_same_as_direct(module, batch, kernel + extra, 1e-10)


@pytest.mark.parametrize(
    ("batch", "channels", "kernel", "length", "padding"),
    [
        (2, (8, 8), 500, 3000, (250, 249)),
        (5, (3, 7), 257, 2111, "same"),
        (1, (4, 4), 1000, 1000, 0),
        (2, (1, 2), 64, 9000, 5),
    ],
)
def test_output_and_gradients_equal_those_of_conv1d_in_single_precision(batch, channels, kernel, length, padding):
    torch.manual_seed(0)
    assert_same_as_direct(FFTConv1d(*channels, kernel, padding=padding), batch, length, 1e-5)


@pytest.mark.parametrize("block", [48, 64, 96, 400])
def test_every_block_size_gives_the_same_result(monkeypatch, block):
    monkeypatch.setattr(fft_conv, "best_block", lambda *_: block)
    assert_same_as_direct(FFTConv1d(3, 2, 33, padding="same", dtype=torch.float64), 2, 300, 1e-10)


def test_chunks_of_one_row_give_the_same_result(monkeypatch):
    monkeypatch.setattr(fft_conv, "CHUNK", 1)
    assert_same_as_direct(FFTConv1d(3, 5, 33, padding="same", dtype=torch.float64), 2, 300, 1e-10)


def test_gradients_equal_finite_differences():
    module = FFTConv1d(2, 3, 5, padding=(4, 1), dtype=torch.float64)
    signal = torch.randn(2, 2, 23, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, w: torch.func.functional_call(module, {"weight": w}, (x,)), (signal, module.weight)
    )


def test_same_padding_is_that_of_conv1d():
    module = FFTConv1d(1, 1, 5, padding="same")
    twin = nn.Conv1d(1, 1, 5, padding="same")
    twin.load_state_dict(module.state_dict())
    signal = torch.randn(1, 1, 30)
    torch.testing.assert_close(module(signal), twin(signal))


def test_state_dict_is_interchangeable_with_conv1d():
    module, twin = FFTConv1d(2, 3, 8), nn.Conv1d(2, 3, 8)
    assert list(module.state_dict()) == list(twin.state_dict()) == ["weight", "bias"]
    module.load_state_dict(twin.state_dict())
    twin.load_state_dict(module.state_dict())
    assert torch.equal(module.weight, twin.weight)


def test_parameters_start_as_those_of_conv1d():
    torch.manual_seed(3)
    module = FFTConv1d(2, 3, 8)
    torch.manual_seed(3)
    assert torch.equal(module.weight, nn.Conv1d(2, 3, 8).weight)


def test_a_layer_without_bias_adds_none():
    module = FFTConv1d(1, 1, 3, bias=False)
    assert module.bias is None
    assert module(torch.zeros(1, 1, 9)).abs().max() == 0


def test_a_signal_without_batch_dimension_gives_a_result_without():
    module = FFTConv1d(2, 3, 8)
    signal = torch.randn(2, 40)
    torch.testing.assert_close(module(signal), module(signal.unsqueeze(0))[0])


def test_a_layer_used_twice_sums_its_gradients():
    module = FFTConv1d(2, 2, 6, padding="same", dtype=torch.float64)
    _, twin = direct_twin(module)
    signal = torch.randn(1, 2, 40, dtype=torch.float64)
    module(module(signal)).square().sum().backward()
    twice = signal
    for _ in range(2):
        twice = twin(functional.pad(twice, module.sides))
    twice.square().sum().backward()
    torch.testing.assert_close(module.weight.grad, twin.weight.grad)


def test_only_the_gradients_asked_for_are_computed():
    module = FFTConv1d(1, 1, 4).requires_grad_(False)
    signal = torch.randn(1, 1, 20, requires_grad=True)
    module(signal).sum().backward()
    assert signal.grad is not None
    assert module.weight.grad is None


@pytest.mark.filterwarnings("ignore:Using backward.*:UserWarning")
def test_a_second_derivative_is_refused():
    signal = torch.randn(1, 1, 20, requires_grad=True)
    (gradient,) = torch.autograd.grad(FFTConv1d(1, 1, 4)(signal).square().sum(), signal, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def count_spectra(monkeypatch):
    calls = []
    real = fft_conv.kernel_spectrum
    monkeypatch.setattr(fft_conv, "kernel_spectrum", lambda *arguments: calls.append(1) or real(*arguments))
    return calls


def test_evaluation_transforms_the_kernel_once(monkeypatch):
    calls = count_spectra(monkeypatch)
    module = FFTConv1d(2, 2, 9).eval()
    with torch.no_grad():
        first, second = (module(torch.ones(1, 2, 50)) for _ in range(2))
    assert len(calls) == 1
    assert torch.equal(first, second)


def test_training_keeps_no_spectrum(monkeypatch):
    calls = count_spectra(monkeypatch)
    module = FFTConv1d(2, 2, 9)
    with torch.no_grad():
        for _ in range(2):
            module(torch.ones(1, 2, 50))
    assert len(calls) == 2


def change_by_optimizer(module):
    module(torch.ones(1, 2, 50)).sum().backward()
    torch.optim.Adam(module.parameters(), lr=0.1).step()


def change_by_state_dict(module):
    module.load_state_dict(FFTConv1d(2, 2, 9).state_dict())


def change_by_replacement(module):
    module.weight = nn.Parameter(torch.ones_like(module.weight))


def change_unseen_by_autograd(module):
    module.train()
    module.weight.data.mul_(2)
    module.eval()


@pytest.mark.parametrize(
    "change", [change_by_optimizer, change_by_state_dict, change_by_replacement, change_unseen_by_autograd]
)
def test_the_kept_spectrum_is_forgotten_when_the_weight_changes(change):
    module = FFTConv1d(2, 2, 9).eval()
    signal = torch.randn(1, 2, 50)
    with torch.no_grad():
        before = module(signal)
    change(module)
    with torch.no_grad():
        after = module(signal)
    padded, _ = direct_twin(module)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, padded(signal).detach(), rtol=1e-4, atol=1e-5)


def test_a_copy_does_not_carry_the_kept_spectrum():
    module = FFTConv1d(2, 2, 9).eval()
    with torch.no_grad():
        module(torch.ones(1, 2, 50))
    assert module._spectrum is not None
    assert copy.deepcopy(module)._spectrum is None


def test_autocast_computes_in_single_precision():
    torch.manual_seed(0)
    module = FFTConv1d(2, 2, 100, padding="same")
    signal, gradient = torch.randn(1, 2, 400), torch.randn(1, 2, 400)
    expected = results(module, signal, gradient)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = results(module, signal, gradient)
    assert found[0].dtype == torch.float32
    for one, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(one, wanted, rtol=1e-5, atol=1e-5)


def test_a_bfloat16_layer_computes_in_single_precision_and_returns_bfloat16():
    module = FFTConv1d(2, 2, 100, padding="same").bfloat16()
    signal = torch.randn(1, 2, 400).bfloat16()
    found = module(signal)
    padded, _ = direct_twin(copy.deepcopy(module).float())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, padded(signal.float()).bfloat16(), rtol=1e-2, atol=1e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_the_result_of_the_cpu():
    module = FFTConv1d(4, 4, 500, padding="same")
    signal, gradient = torch.randn(2, 4, 3000), torch.randn(2, 4, 3000)
    expected = results(module, signal, gradient)
    for found, wanted in zip(results(module.cuda(), signal.cuda(), gradient.cuda()), expected, strict=True):
        assert (found.cpu() - wanted.cpu()).norm() <= 1e-4 * wanted.norm().cpu()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 2}, r"takes only stride=1, got stride=2: use nn.Conv1d"),
        ({"dilation": 3}, r"takes only dilation=1, got dilation=3"),
        ({"groups": 2}, r"takes only groups=1, got groups=2"),
        ({"padding_mode": "circular"}, r"takes only padding_mode='zeros', got padding_mode='circular'"),
        ({"padding": -1}, r"a number >= 0 or a pair \(left, right\), got -1"),
        ({"padding": (1, 2, 3)}, r"got \(1, 2, 3\)"),
        ({"padding": "full"}, r"'same', 'valid'.*got 'full'"),
    ],
)
def test_what_it_cannot_do_is_refused(options, message):
    with pytest.raises(NetworkError, match=message):
        FFTConv1d(2, 2, 4, **options)


def test_a_signal_shorter_than_the_kernel_is_refused():
    with pytest.raises(NetworkError, match="a signal of 7 samples, padding included, is shorter than the kernel of 8"):
        FFTConv1d(1, 1, 8, padding=(1, 1))(torch.zeros(1, 1, 5))


@given(st.integers(1, 100_000))
def test_a_good_size_is_the_smallest_that_fits(length):
    size = good_size(length)
    index = good_sizes().index(size)
    assert size >= length
    assert index == 0 or good_sizes()[index - 1] < length


@given(st.integers(1, 5000), st.integers(1, 100_000), st.integers(1, 64))
def test_the_best_block_holds_the_kernel_and_covers_the_signal(kernel, num_outputs, batch):
    plan = Plan(best_block(kernel, num_outputs, batch, 4, 4), kernel, num_outputs, 0)
    assert plan.block >= kernel
    assert plan.num_blocks * plan.hop >= num_outputs > (plan.num_blocks - 1) * plan.hop
