"""The loss against torch's own: value, gradient, extremes."""

import pytest
import torch
from torch.nn import functional as F

from dae_lightning.loss import bce_terms, bce_with_logits

LOGITS = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0)) * 5
TARGETS = torch.rand(6, 5, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e-4])
def test_value_and_gradient_are_torchs_own(scale: float) -> None:
    ours, theirs = (LOGITS * scale).requires_grad_(), (LOGITS * scale).requires_grad_()
    value, expected = bce_with_logits(ours, TARGETS), F.binary_cross_entropy_with_logits(theirs, TARGETS)
    (3 * value).backward()
    (3 * expected).backward()
    torch.testing.assert_close(value, expected)
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_it_is_the_bce_of_the_sigmoid() -> None:
    logits, targets = LOGITS.double(), TARGETS.double()  # in float32 a sigmoid near 1 has few digits left
    expected = F.binary_cross_entropy(torch.sigmoid(logits), targets, reduction="none")
    torch.testing.assert_close(bce_terms(logits, targets), expected)


def test_the_gradient_is_that_of_the_value() -> None:
    assert torch.autograd.gradcheck(lambda x: bce_with_logits(x, TARGETS.double()), LOGITS.double().requires_grad_())


def test_logits_without_bounds_have_a_finite_loss_and_a_nan_is_not_hidden() -> None:
    far = torch.tensor([[-1e4, 1e4]])
    assert bce_terms(far, torch.tensor([[0.0, 1.0]])).tolist() == [[0.0, 0.0]]
    assert bce_terms(far, torch.tensor([[1.0, 0.0]])).tolist() == [[1e4, 1e4]]
    assert bool(bce_with_logits(torch.tensor([[torch.nan, 0.0]]), torch.zeros(1, 2)).isnan())
