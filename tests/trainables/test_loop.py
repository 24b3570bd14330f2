import copy
import math
import time
from dataclasses import fields, replace

import pytest
import torch
from torch import nn

import strategies
from strategies import Strategy
from study.definition import Training
from trainables import loop
from trainables.batch import Batch
from trainables.errors import TrainingError
from trainables.loop import (
    Learner,
    TrainingSettings,
    evaluate,
    make_optimizer,
    make_scheduler,
    probe_gradients,
    train_epoch,
    train_step,
)
from trainables.networks.base import Network
from trainables.tasks import Task

TASKS = (Task("emotion", ("neutral", "anger", "joy")), Task("gender", ("female", "male")))


class Toy(Network):
    """Mean of the audio frames, one hidden layer; with batch statistics and dropout if asked for."""

    def __init__(self, *, noisy: bool = False) -> None:
        super().__init__()
        self.hidden = nn.Linear(640, 8)
        self.noise = nn.Sequential(nn.BatchNorm1d(8), nn.Dropout(0.5)) if noisy else nn.Identity()
        self.add_heads(8, TASKS)

    def features(self, batch: Batch) -> torch.Tensor:
        frames = batch.audio.reshape(len(batch), -1, 640)
        return self.noise(torch.tanh(self.hidden(frames.mean(dim=1))))

    def last_shared_layer(self) -> list[nn.Parameter]:
        return list(self.hidden.parameters())


def make_batch(size: int = 12, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    labels = {task.name: torch.randint(task.num_outputs, (size,), generator=generator) for task in TASKS}
    audio = torch.randn(size, 4 * 640, generator=generator)
    return Batch(torch.full((size,), 4), labels, audio=audio)


def make_learner(strategy: Strategy | str = "equal", *, noisy: bool = False, seed: int = 0, **settings) -> Learner:
    torch.manual_seed(seed)
    network = Toy(noisy=noisy)
    if isinstance(strategy, str):
        strategy = strategies.create(strategy, 2)
    chosen = TrainingSettings(**({"learning_rate": 0.01} | settings))
    optimizer = make_optimizer(network, strategy, chosen)
    return Learner(network, strategy, TASKS, optimizer, make_scheduler(optimizer, chosen), chosen, torch.device("cpu"))


def parameters(learner: Learner) -> torch.Tensor:
    return nn.utils.parameters_to_vector(learner.network.parameters()).detach()


def test_the_definition_and_the_loop_agree_on_settings_and_defaults():
    loop = {field.name: field.default for field in fields(TrainingSettings)}
    definition = {name: field.default for name, field in Training.model_fields.items()}
    assert definition == loop


def test_one_step_is_one_step_of_adam_on_the_joint_loss():
    learner, peer = make_learner(clip_norm=None), make_learner(clip_norm=None)
    batch = make_batch()
    train_step(learner, batch)
    outputs = peer.network(batch)
    loss = sum(0.5 * nn.functional.cross_entropy(outputs[task.name], batch.labels[task.name]) for task in TASKS)
    optimizer = torch.optim.Adam(peer.network.parameters(), lr=0.01)
    loss.backward()
    optimizer.step()
    assert torch.equal(parameters(learner), parameters(peer))


@pytest.mark.parametrize("name", ["equal", "softmax", "uncertainty", "gradnorm"])
def test_a_step_in_micro_batches_equals_a_step_at_once(name):
    whole, parts = make_learner(name), make_learner(name, accumulation=3)
    for seed in range(3):
        losses = train_step(whole, make_batch(seed=seed)), train_step(parts, make_batch(seed=seed))
        torch.testing.assert_close(*losses)
    torch.testing.assert_close(parameters(whole), parameters(parts), rtol=1e-3, atol=2e-4)


def test_training_lowers_the_losses_and_counts_steps():
    learner = make_learner()
    batches = [make_batch(seed=seed) for seed in range(4)]
    outcomes = [train_epoch(learner, batches) for _ in range(20)]
    assert learner.step == 80
    assert outcomes[-1].steps == 4
    assert outcomes[-1].losses["emotion"] < 0.7 * outcomes[0].losses["emotion"]
    assert outcomes[-1].losses["gender"] < 0.7 * outcomes[0].losses["gender"]


def test_the_gradient_of_the_network_is_clipped_and_that_of_the_strategy_is_not():
    learner = make_learner("softmax", clip_norm=1e-6)
    train_step(learner, make_batch())
    network = torch.cat([parameter.grad.flatten() for parameter in learner.network.parameters()])
    assert network.norm().item() == pytest.approx(1e-6, rel=1e-3)
    assert learner.strategy.logits.grad.norm().item() > 1e-3


def test_network_and_strategy_are_clipped_together_where_that_is_asked_for():
    learner = make_learner("softmax", clip_norm=1e-6, clip_strategy=True)
    train_step(learner, make_batch())
    gradients = [parameter.grad for module in (learner.network, learner.strategy) for parameter in module.parameters()]
    assert torch.cat([gradient.flatten() for gradient in gradients]).norm().item() == pytest.approx(1e-6, rel=1e-3)
    assert 0 < learner.strategy.logits.grad.norm().item() < 1e-6


def test_the_strategy_has_a_group_of_its_own_without_weight_decay():
    learner = make_learner(strategies.create("softmax", 2, learning_rate=0.5), weight_decay=0.1)
    network, own = learner.optimizer.param_groups
    assert (network["lr"], network["weight_decay"]) == (0.01, 0.1)
    assert (own["lr"], own["weight_decay"]) == (0.5, 0.0)


def test_the_learning_rate_follows_its_schedule():
    learner = make_learner(schedule="step", step_epochs=2, gamma=0.1)
    rates = []
    for _ in range(4):
        rates.append(learner.optimizer.param_groups[0]["lr"])
        train_epoch(learner, [make_batch()])
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001])


def test_a_loss_that_is_no_number_ends_training_with_step_losses_and_weights():
    learner = make_learner()
    train_step(learner, make_batch())
    with torch.no_grad():
        learner.network.heads["gender"].bias.fill_(math.nan)
    with pytest.raises(
        TrainingError, match=r"at step 2: losses emotion \d.*, gender nan; gradient norm nan; weights \(0.5, 0.5\)"
    ):
        train_step(learner, make_batch())


def test_a_gradient_that_is_no_number_ends_training_before_it_reaches_the_network():
    learner = make_learner()
    before = parameters(learner)
    learner.network.hidden.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(TrainingError, match=r"gradient norm (inf|nan)"):
        train_step(learner, make_batch())
    assert torch.equal(parameters(learner), before)


class Onlooker(Strategy):
    """Equal weights that ask for the losses after every step."""

    def weights(self, losses):
        return torch.full_like(losses, 1 / self.num_tasks)

    def after_step(self, recompute):
        self.seen = recompute()


def test_looking_at_the_losses_again_leaves_statistics_and_generators_untouched():
    onlooker, peer = make_learner(Onlooker(2), noisy=True), make_learner("equal", noisy=True)
    for learner in (onlooker, peer):
        torch.manual_seed(1)
        train_epoch(learner, [make_batch(seed=seed) for seed in range(3)])
        learner.next_draw = torch.rand(1)
    assert torch.equal(parameters(onlooker), parameters(peer))
    for mine, other in zip(onlooker.network.buffers(), peer.network.buffers(), strict=True):
        assert torch.equal(mine, other)
    assert torch.equal(onlooker.next_draw, peer.next_draw)


def test_the_losses_after_the_step_are_those_of_the_network_after_the_step():
    learner = make_learner(Onlooker(2), accumulation=2)
    before = train_step(learner, make_batch())
    outputs = learner.network(make_batch())
    after = [nn.functional.cross_entropy(outputs[task.name], make_batch().labels[task.name]).item() for task in TASKS]
    assert learner.strategy.seen.tolist() == pytest.approx(after, rel=1e-5)
    assert learner.strategy.seen.sum() < before.sum()


def test_evaluation_keeps_the_order_and_leaves_no_trace():
    learner = make_learner(noisy=True)
    batches = [make_batch(seed=seed) for seed in range(3)]
    before = [buffer.clone() for buffer in learner.network.buffers()]
    found = evaluate(learner.network, batches, TASKS, torch.device("cpu"))
    assert found["gender"][0].shape == (36, 2)
    assert found["gender"][1].tolist() == [label for batch in batches for label in batch.labels["gender"].tolist()]
    for buffer, old in zip(learner.network.buffers(), before, strict=True):
        assert torch.equal(buffer, old)


def test_bfloat16_changes_the_arithmetic_and_still_learns():
    exact, coarse = make_learner(), make_learner(precision="bfloat16")
    for learner in (exact, coarse):
        learner.outcomes = [train_epoch(learner, [make_batch()]) for _ in range(30)]
    assert not torch.equal(parameters(exact), parameters(coarse))
    assert coarse.outcomes[-1].losses["emotion"] == pytest.approx(exact.outcomes[-1].losses["emotion"], abs=0.05)


def test_a_batch_splits_into_nearly_equal_parts_in_order():
    batch = make_batch(size=7)
    parts = batch.split(3)
    assert [len(part) for part in parts] == [3, 2, 2]
    assert torch.equal(torch.cat([part.audio for part in parts]), batch.audio)
    assert len(make_batch(size=2).split(5)) == 2


# probes of the gradients ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["equal", "softmax", "gradnorm"])
@pytest.mark.parametrize("settings", [{}, {"accumulation": 3}, {"precision": "bfloat16"}], ids=str)
def test_a_trial_with_probes_is_bit_identical_to_one_without(name, settings):
    probed = make_learner(name, noisy=True, diagnose_every=1, **settings)
    peer = make_learner(name, noisy=True, diagnose_every=0, **settings)
    for learner in (probed, peer):
        torch.manual_seed(1)
        learner.outcomes = [train_epoch(learner, [make_batch(seed=seed) for seed in range(3)]) for _ in range(2)]
        learner.next_draw = torch.rand(1)
    assert torch.equal(parameters(probed), parameters(peer))
    assert torch.equal(probed.next_draw, peer.next_draw)
    for mine, other in zip(probed.network.buffers(), peer.network.buffers(), strict=True):
        assert torch.equal(mine, other)
    for mine, other in zip(probed.network.parameters(), peer.network.parameters(), strict=True):
        assert torch.equal(mine.grad, other.grad)
    assert [outcome.losses for outcome in probed.outcomes] == [outcome.losses for outcome in peer.outcomes]
    assert "gradient/conflict" in probed.outcomes[0].diagnostics
    assert not any(name.startswith("gradient/") for name in peer.outcomes[0].diagnostics)


def test_a_probe_sees_the_gradients_that_the_step_is_about_to_take():
    learner = make_learner(strategies.create("static", 2, weights=["0.8", "0.2"]), noisy=True, clip_norm=None)
    torch.manual_seed(1)
    probe = probe_gradients(learner, make_batch())
    train_step(learner, make_batch())
    taken = torch.cat([parameter.grad.flatten() for parameter in learner.network.last_shared_layer()]).norm()
    lengths = torch.tensor([0.8, 0.2]) * probe.norms
    assert taken.item() == pytest.approx((lengths @ probe.cosines @ lengths).sqrt().item(), rel=1e-5)


def test_a_probe_leaves_no_trace_in_gradients_statistics_and_generators():
    learner = make_learner(noisy=True)
    train_step(learner, make_batch())
    before = [parameter.grad.clone() for parameter in learner.network.parameters()], copy.deepcopy(learner.network)
    state = torch.get_rng_state()
    probe_gradients(learner, make_batch())
    assert torch.equal(torch.get_rng_state(), state)
    for parameter, gradient in zip(learner.network.parameters(), before[0], strict=True):
        assert torch.equal(parameter.grad, gradient)
    for buffer, old in zip(learner.network.buffers(), before[1].buffers(), strict=True):
        assert torch.equal(buffer, old)


@pytest.mark.parametrize(
    ("settings", "steps_per_epoch", "probed"),
    [
        ({}, 4, [2, 6]),
        ({}, 1, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({}, 0, []),
        ({"diagnose_every": 3}, 4, [1, 4, 7]),
        ({"diagnose_every": 0}, 4, []),
    ],
    ids=str,
)
def test_gradients_are_probed_in_the_middle_of_an_epoch_or_every_so_many_steps(settings, steps_per_epoch, probed):
    learner = make_learner(**settings)
    learner.steps_per_epoch = steps_per_epoch
    due = []
    for step in range(8):
        learner.step = step
        due += [step] if learner.probe_is_due else []
    assert due == probed


def test_the_time_of_probes_is_not_the_time_of_training(monkeypatch):
    now = [0.0]

    def slow_probe(learner, batch):
        now[0] += 100.0

    def slow_step(learner, batch):
        now[0] += 3.0
        return train_step(learner, batch)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(loop, "probe_gradients", slow_probe)
    monkeypatch.setattr(loop, "train_step", slow_step)
    outcome = train_epoch(make_learner(diagnose_every=1), [make_batch()] * 4)
    assert (outcome.seconds, outcome.diagnostics_seconds) == (12.0, 400.0)


def test_a_frozen_last_shared_layer_is_not_probed_and_trains_the_rest():
    learner = make_learner(diagnose_every=1)
    learner.network.hidden.requires_grad_(requires_grad=False)
    outcome = train_epoch(learner, [make_batch()])
    assert not any(name.startswith("gradient/") for name in outcome.diagnostics)
    assert outcome.diagnostics["weight/entropy"] == pytest.approx(1.0)


def test_a_task_that_the_batch_has_no_label_of_is_left_out_of_the_probe():
    learner, batch = make_learner(diagnose_every=1), make_batch()
    unlabelled = replace(batch, labels=batch.labels | {"gender": torch.full((12,), -1)})
    found = train_epoch(learner, [unlabelled]).diagnostics
    assert {name for name in found if name.startswith("gradient/")} == {
        "gradient/norm/emotion",
        "gradient/effective/emotion",
    }
    found = train_epoch(learner, [unlabelled, batch]).diagnostics
    assert -1 <= found["gradient/cosine/emotion:gender"] <= 1


def test_a_loss_that_is_scaled_moves_the_network_as_its_weight_would_and_is_reported_as_it_is():
    batch = make_batch()
    weighted = make_learner(strategies.create("static", 2, weights=[0.9, 0.1]), optimizer="sgd", clip_norm=None)
    scaled = make_learner("equal", optimizer="sgd", clip_norm=None)
    scaled.loss_scales = {"emotion": 1.8, "gender": 0.2}
    outcomes = [train_epoch(learner, [batch]) for learner in (weighted, scaled)]
    # the heads see every loss at one and the same scale whatever its weight, and a scaled loss at its own
    assert torch.allclose(weighted.network.hidden.weight, scaled.network.hidden.weight, atol=1e-7)
    assert outcomes[0].losses == pytest.approx(outcomes[1].losses)
    assert outcomes[1].diagnostics["mean_weight/emotion"] == 0.5


def test_the_mean_weight_of_an_epoch_is_over_its_steps_and_on_the_strategys_own_scale():
    learner = make_learner("uncertainty", learning_rate=0.1)
    seen = []
    step = loop.train_step

    def noted(learner, batch):
        losses = step(learner, batch)
        seen.append(learner.strategy.last_weights.detach().double().clone())
        return losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_step", noted)
        outcome = train_epoch(learner, [make_batch(seed=seed) for seed in range(4)])
    means = torch.stack(seen).mean(dim=0)
    found = [outcome.diagnostics[f"mean_weight/{task.name}"] for task in TASKS]
    assert found == pytest.approx(means.tolist())
    assert sum(found) > 1.01
