"""Loss and accuracy of many batches."""

import pytest
import torch
import torch.nn.functional as F

from alexnet_lit.scores import Score


def test_a_score_is_over_images_not_over_batches() -> None:
    logits, labels = torch.randn(7, 10), torch.arange(7)
    score = Score()
    for part in (slice(0, 5), slice(5, 7)):
        loss_sum = F.cross_entropy(logits[part], labels[part], reduction="sum")
        score.update(loss_sum, (logits[part].argmax(1) == labels[part]).sum(), len(labels[part]))

    values = score.compute()

    assert values["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-6)
    assert values["acc"] == pytest.approx((logits.argmax(1) == labels).float().mean().item())
