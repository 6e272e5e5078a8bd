"""The paper's net learns 64 real images by heart."""

import pytest
import torch
import torch.nn.functional as F

import alexnet_lit
from tests.nets.test_alexnet import real_images

STEPS = 200


@pytest.mark.slow
def test_learns_64_images_by_heart() -> None:
    torch.manual_seed(0)
    images, labels = real_images(64, image_size=65)
    switches = ("model=alexnet_2012", "model.lrn=false", "model.init=kaiming", "model.dropout=0.0")
    net = alexnet_lit.build_net(alexnet_lit.compose(*switches, "data.image_size=65"))
    steps = torch.optim.AdamW(net.parameters(), lr=3e-4, fused=True)
    # Warm-up, then a straight line to zero, as scheduler=one_cycle does it.
    schedule = torch.optim.lr_scheduler.LambdaLR(steps, lambda t: min((t + 1) / 20, (STEPS - t) / (STEPS - 20)))

    for _ in range(STEPS):
        logits = net(images)
        loss = F.cross_entropy(logits, labels)
        if loss.item() < 0.1 and (logits.argmax(1) == labels).all():
            return
        steps.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        steps.step()
        schedule.step()
    pytest.fail(f"loss {loss.item():.3f} after {STEPS} steps")
