"""What a loss refuses, each with one sentence."""

import pytest
import torch

from fallline import losses
from fallline.errors import BadTask, BadValue, NotFound
from fallline.specs import Loss

F32 = torch.float32


def zeros(*shape, dtype=F32):
    return torch.zeros(shape, dtype=dtype)


INT = torch.int64
REGRESSION = [losses.mse, losses.mae]


@pytest.mark.parametrize("loss", REGRESSION)
@pytest.mark.parametrize(
    ("prediction", "target", "sentence"),
    [
        (
            zeros(5, 1),
            zeros(5),
            r"^the model gives \[5, 1\] and the target is \[5\]: they must have one shape",
        ),
        (zeros(5), zeros(5, 1), r"use y\.reshape\(-1, 1\)\)$"),
        (zeros(5, 2), zeros(5, 3), r"gives \[5, 2\] and the target is \[5, 3\]"),
        (zeros(5, 2), zeros(4, 2), r"gives \[5, 2\] and the target is \[4, 2\]"),
        (
            zeros(5),
            zeros(5, dtype=INT),
            r"^the target of a regression must be floating point, got torch\.int64: use y",
        ),
        (zeros(5), zeros(5, dtype=torch.bool), r"must be floating point, got torch\.bool"),
        (zeros(0, 2), zeros(0, 2), r"^the batch is empty: the mean over no examples is not defined"),
    ],
)
def test_regression_refuses(loss, prediction, target, sentence):
    with pytest.raises(BadTask, match=sentence):
        loss(prediction, target)


@pytest.mark.parametrize(
    ("prediction", "target", "sentence"),
    [
        (zeros(5), zeros(5, dtype=INT), r"^cross_entropy needs logits \[examples, classes\], the model gives \[5\]"),
        (zeros(5, 3, dtype=INT), zeros(5, dtype=INT), r"needs logits \[examples, classes\], the model gives \[5, 3\]"),
        (zeros(5, 3), zeros(5), r"needs class numbers \[5\] of an integer type, or shares of classes \[5, 3\] of a floating type, for logits \[5, 3\], the target is \[5\] of"),
        (zeros(5, 3), zeros(5, dtype=torch.bool), r"the target is \[5\] of torch\.bool"),
        (zeros(5, 3), zeros(5, 1, dtype=INT), r"class numbers \[5\] of an integer type, .* the target is \[5, 1\]"),
        (zeros(5, 3), zeros(4, dtype=INT), r"the target is \[4\] of torch\.int64"),
        (zeros(5, 3, 2), zeros(5, 3, dtype=INT), r"class numbers \[5, 2\] of an integer type, .* for logits \[5, 3, 2\]"),
        (zeros(3, 2), torch.tensor([0, 1, 2]), r"^the labels go from 0 to 2, but the model has 2 outputs, for the labels "
         r"0 to 1: give the model 3 outputs, or number the labels from 0$"),
        (zeros(2, 2), torch.tensor([-1, 1]), r"^the labels go from -1 to 1, .* 0 to 1: number the labels from 0$"),
        (zeros(0, 2), zeros(0, dtype=INT), r"^the batch is empty"),
    ],
)  # fmt: skip
def test_cross_entropy_refuses(prediction, target, sentence):
    with pytest.raises(BadTask, match=sentence):
        losses.cross_entropy(prediction, target)


@pytest.mark.parametrize(
    ("weight", "sentence"),
    [
        (
            torch.ones(3, 1),
            r"^the weights are \[3, 1\] for 3 examples: they must be one number for each, \[3\]",
        ),
        (torch.ones(2), r"^the weights are \[2\] for 3 examples"),
        (torch.zeros(3), r"^the weights of examples must be at least 0, and one of them above 0"),
        (torch.tensor([1.0, 1.0, -1.0]), r"^the weights of examples must be at least 0"),
        (torch.tensor([1.0, 1.0, float("nan")]), r"^the weights of examples must be at least 0"),
    ],
)
def test_weights_are_refused(weight, sentence):
    for loss in (losses.mse, 0.5 * losses.mse + losses.mae):
        with pytest.raises(BadTask, match=sentence):
            loss(zeros(3), zeros(3), weight=weight)


def test_a_missing_need_is_named():
    with pytest.raises(
        BadTask, match=r"^the loss mse needs target, but the batch has \['inputs', 'prediction'\]"
    ):
        losses.check(0.5 * losses.mse, {"prediction": zeros(3), "inputs": zeros(3)})


@pytest.mark.parametrize(
    "given", [(), (zeros(3),), (zeros(3), [0.0, 0.0, 0.0]), (zeros(3), zeros(3), zeros(3))]
)
def test_a_plain_call_takes_two_tensors(given):
    if not given:
        assert losses.mse() == losses.mse
        return
    with pytest.raises(
        BadValue, match=r"^mse takes \(prediction, target\) as tensors, or settings by keyword$"
    ):
        losses.mse(*given)


def test_a_misspelt_name_in_a_plain_call():
    with pytest.raises(
        BadValue, match=r"^a loss of a batch is given prediction, .*rng; wieght: did you mean 'weight'\?"
    ):
        losses.mse(zeros(3), zeros(3), wieght=torch.ones(3))


def test_settings_that_it_does_not_have():
    with pytest.raises(NotFound, match="scaled has no number 'wieght'; did you mean 'weight'"):
        (0.5 * losses.mse)(wieght=1.0)
    with pytest.raises(
        BadValue, match=r"scaled\(weight=nan\): weight is the weight of a loss in a sum and must be a fin"
    ):
        (0.5 * losses.mse)(weight=float("nan"))


@pytest.mark.parametrize("other", [1, 0.5, "mse", None])
def test_only_losses_add(other):
    with pytest.raises(BadValue, match=r"^a loss adds to a loss, got"):
        _ = losses.mse + other


@pytest.mark.parametrize("weight", ["0.5", None, True, torch.ones(())])
def test_only_numbers_scale(weight):
    with pytest.raises(BadValue, match=r"^a loss scales by a finite number, a schedule or an axis, got"):
        _ = losses.mse * weight


def test_needs_that_nobody_has():
    with pytest.raises(BadValue, match=r"^a loss can need prediction, .*; got \['teacher'\]"):
        losses.define(needs=("prediction", "teacher"))


def test_a_misspelt_loss():
    with pytest.raises(NotFound, match="no loss is called 'msee'; did you mean 'mse'"):
        Loss("msee")(zeros(3), zeros(3))


@pytest.mark.parametrize("loss", [losses.mse, losses.mse + 0.5 * losses.mae])
@pytest.mark.parametrize("compute", [losses.value, losses.examples])
def test_a_batch_without_what_a_loss_needs_is_refused_in_training_too(loss, compute):
    with pytest.raises(BadTask, match=r"^the loss m[sa]e needs target, but the batch has \['prediction'\]$"):
        compute(loss, {"prediction": zeros(3)})
