"""Where torch has a loss of the same meaning, the numbers and the gradients are torch's."""

import pytest
import torch
import torch.nn.functional as F

from fallline import losses

N, K, T = 11, 4, 3


def both(loss, twin, prediction, target):
    """Values and gradients of a loss and of torch's."""
    found = []
    for function in (loss, twin):
        leaf = prediction.clone().requires_grad_()
        value = function(leaf, target)
        value.backward()
        found.append((value.detach(), leaf.grad))
    return found


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(N, K), (N, K, T), (N, K, T, 2), (1, 1)])
def test_cross_entropy(shape):
    target = torch.randint(shape[1], (shape[0], *shape[2:]), generator=torch.Generator().manual_seed(1))
    ours, torchs = both(losses.cross_entropy, F.cross_entropy, numbers(*shape), target)
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14)
    each = F.cross_entropy(numbers(*shape), target, reduction="none").reshape(shape[0], -1).mean(1)
    given = {"prediction": numbers(*shape), "target": target}
    torch.testing.assert_close(losses.examples(losses.cross_entropy, given), each, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels_of_every_integer_type(dtype):
    logits, target = numbers(N, K), torch.arange(N) % K
    assert losses.cross_entropy(logits, target.to(dtype)) == losses.cross_entropy(logits, target)


def test_cross_entropy_far_from_zero():
    logits = torch.tensor([[1e4, -1e4, 0.0], [0.0, 1e4, 1e4]])
    target = torch.tensor([1, 2])
    ours, torchs = both(losses.cross_entropy, F.cross_entropy, logits, target)
    torch.testing.assert_close(ours, torchs)


@pytest.mark.parametrize(("loss", "twin"), [(losses.mse, F.mse_loss), (losses.mae, F.l1_loss)])
@pytest.mark.parametrize("shape", [(N,), (N, K), (N, K, T)])
def test_errors_are_torchs_times_the_outputs(loss, twin, shape):
    outputs = numbers(*shape)[0].numel()

    def scaled(prediction, target):
        return outputs * twin(prediction, target)

    ours, torchs = both(loss, scaled, numbers(*shape), numbers(*shape, seed=1))
    torch.testing.assert_close(ours, torchs, rtol=1e-12, atol=1e-14)


def test_weights_are_torchs_for_a_classifier():
    logits, target, by_class = numbers(N, K), torch.arange(N) % K, torch.tensor([0.5, 2.0, 0.0, 1.0]).double()
    ours = losses.cross_entropy(logits, target, weight=by_class[target])
    torch.testing.assert_close(ours, F.cross_entropy(logits, target, weight=by_class))
