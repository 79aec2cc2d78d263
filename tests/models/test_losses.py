import pytest
import torch
import torch.nn.functional as F

from dropdrift.models.losses import reconstruction_loss, relative_error, task_loss

NAN = float("nan")


def test_task_loss_is_the_mean_binary_cross_entropy():
    logits, labels = torch.tensor([[0.3], [-2.0]]), torch.tensor([[1.0], [0.0]])
    expected = F.binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(task_loss(logits, labels), expected)


def test_unknown_labels_count_nothing_and_leave_no_nan_in_the_gradient():
    logits = torch.tensor([[0.3, 1.0], [-2.0, 0.5]], requires_grad=True)
    labels = torch.tensor([[1.0, NAN], [0.0, 1.0]])
    loss = task_loss(logits, labels)
    known = torch.tensor([[True, False], [True, True]])
    separate = F.binary_cross_entropy_with_logits(
        logits.detach(), labels.nan_to_num(), reduction="none"
    )
    torch.testing.assert_close(loss.detach(), separate[known].sum() / 2)
    loss.backward()
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 1] == 0


def test_mean_over_parts_is_the_loss_of_the_whole():
    generator = torch.manual_seed(0)
    logits = torch.randn(8, 3, generator=generator)
    labels = (torch.rand(8, 3, generator=generator) < 0.5).float()
    labels[torch.rand(8, 3, generator=generator) < 0.3] = NAN
    parts = [task_loss(logits[:4], labels[:4]), task_loss(logits[4:], labels[4:])]
    torch.testing.assert_close(task_loss(logits, labels), torch.stack(parts).mean())


@pytest.mark.parametrize(("norm", "factor"), [("mean", 1 / 5), ("sum", 1.0)])
def test_reconstruction_loss(norm, factor):
    generator = torch.manual_seed(0)
    ours, target = torch.randn(2, 7, 5, generator=generator)
    expected = (ours - target).square().sum(dim=1).mean() * factor
    torch.testing.assert_close(reconstruction_loss(ours, target, norm), expected)


def test_relative_error_is_1_for_zeros_at_any_scale():
    x = torch.randn(7, 5, generator=torch.manual_seed(0))
    for scale in (1e-2, 1.0, 1e3):
        torch.testing.assert_close(relative_error(torch.zeros(7, 5), scale * x), torch.tensor(1.0))
        torch.testing.assert_close(
            relative_error(1.5 * scale * x, scale * x), torch.tensor(0.25), rtol=1e-4, atol=0
        )


def test_relative_error_of_rows_without_numbers_is_finite():
    nothing = torch.zeros(3, 5)
    assert relative_error(nothing, nothing) == 0
    decoded = torch.full((3, 5), 1e-3, requires_grad=True)
    loss = relative_error(decoded, nothing)
    torch.testing.assert_close(loss.detach(), torch.tensor(1.0))
