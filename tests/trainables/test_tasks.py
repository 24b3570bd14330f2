import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from trainables.tasks import (
    Task,
    balanced_class_weights,
    concordance,
    joint_loss,
    normalised,
    score,
    task_loss,
)

EMOTION = Task("emotion", ("neutral", "anger", "happiness"))
VALENCE = Task("valence", kind="regression")


def test_a_task_knows_the_size_of_its_head_and_the_loss_of_pure_chance():
    assert (EMOTION.num_outputs, VALENCE.num_outputs) == (3, 1)
    assert EMOTION.facts.chance_loss == pytest.approx(math.log(3))
    assert VALENCE.facts.chance_loss == 1.0


def test_negative_log_likelihood_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    loss = task_loss(EMOTION, logits, torch.tensor([0, 1]))
    assert loss.item() == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)


def test_missing_labels_do_not_count_in_loss_or_metrics():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, -1, 0, -1])
    assert task_loss(EMOTION, logits, labels).item() == pytest.approx(
        task_loss(EMOTION, logits[[0, 2]], labels[[0, 2]]).item()
    )
    assert score(EMOTION, logits.numpy(), labels.numpy()) == score(
        EMOTION, logits[[0, 2]].numpy(), labels[[0, 2]].numpy()
    )


@pytest.mark.parametrize("task", [EMOTION, VALENCE], ids=lambda task: task.kind)
def test_a_batch_without_any_label_has_zero_loss_zero_gradient_and_nan_metrics(task):
    outputs = torch.randn(3, task.num_outputs, requires_grad=True)
    labels = torch.full((3,), -1) if task.kind == "classification" else torch.full((3,), math.nan)
    loss = task_loss(task, outputs, labels)
    loss.backward()
    assert loss.item() == 0.0
    assert outputs.grad is not None
    assert not outputs.grad.any()
    assert all(math.isnan(value) for value in score(task, outputs.detach().numpy(), labels.numpy()).values())


def test_class_weights_weigh_the_classes_and_leave_the_metric_alone():
    logits, labels = torch.zeros(2, 3), torch.tensor([0, 1])
    weights = torch.tensor([3.0, 1.0, 0.0])
    assert (
        task_loss(EMOTION, logits + torch.tensor([1.0, 0, 0]), labels, weights).item()
        < task_loss(EMOTION, logits + torch.tensor([1.0, 0, 0]), labels).item()
    )
    assert score(EMOTION, logits.numpy(), labels.numpy())["nll"] == pytest.approx(math.log(3))


@given(st.integers(0, 10_000), st.integers(1, 40))
def test_classification_metrics_equal_scikit_learns(seed, size):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(size, 3)).astype(np.float32)
    labels = generator.integers(0, 3, size)
    found, predictions = score(EMOTION, logits, labels), logits.argmax(axis=1)
    occurring = sorted(set(labels))
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predictions))
    assert found["uar"] == pytest.approx(
        metrics.recall_score(labels, predictions, labels=occurring, average="macro", zero_division=0)
    )
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(labels, predictions, average="macro", zero_division=0))
    assert found["nll"] == pytest.approx(metrics.log_loss(labels, probabilities, labels=[0, 1, 2]))


def test_unweighted_average_recall_ignores_how_many_of_a_class_there_are():
    logits = np.eye(3, dtype=np.float32)[[0, 0, 0, 0]]
    assert score(EMOTION, logits, np.array([0, 0, 0, 1]))["uar"] == pytest.approx(0.5)
    assert score(EMOTION, logits, np.array([0, 0, 0, 1]))["accuracy"] == pytest.approx(0.75)


def test_perfect_prediction_of_four_values_has_concordance_exactly_one():
    values = torch.tensor([0.1, 0.4, 0.35, 0.8])
    assert concordance(values, values).item() == pytest.approx(1.0, abs=1e-6)


def test_concordance_by_hand():
    # means 2 and 3, variances 2/3 and 2/3, covariance 2/3: 2*(2/3) / (4/3 + 1) = 4/7
    assert concordance(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 3.0, 4.0])).item() == pytest.approx(4 / 7)


def test_concordance_of_constant_targets_is_zero_and_its_gradient_finite():
    predictions = torch.tensor([0.5, 0.5], requires_grad=True)
    loss = task_loss(VALENCE, predictions.unsqueeze(1), torch.tensor([0.5, 0.5]))
    loss.backward()
    assert loss.item() == 1.0
    assert predictions.grad is not None
    assert predictions.grad.isfinite().all()


def test_regression_metrics_by_hand():
    found = score(
        VALENCE, np.array([[1.0], [2.0], [3.0]], dtype=np.float32), np.array([2.0, 3.0, 4.0], dtype=np.float32)
    )
    assert found == pytest.approx({"nll": 3 / 7, "ccc": 4 / 7, "mse": 1.0})


def test_balanced_class_weights_average_to_one_over_utterances():
    labels = np.array([0, 0, 0, 1, -1])
    weights = balanced_class_weights(labels, 3).numpy()
    assert weights == pytest.approx([4 / 6, 2.0, 0.0])
    assert weights[labels[labels >= 0]].mean() == pytest.approx(1.0)


def test_joint_loss_and_normalised_weights_by_hand():
    assert joint_loss({"emotion": 2.0, "gender": 0.5}, {"emotion": 0.25, "gender": 0.75}) == pytest.approx(0.875)
    assert normalised([2.0, 6.0]) == [0.25, 0.75]
    assert normalised([0.0, 0.0]) == [0.0, 0.0]
    assert normalised([-3.0, 2.0, 6.0]) == [0.0, 0.25, 0.75]
