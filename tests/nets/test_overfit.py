"""Nets learn 64 real images by heart."""

import pytest
import torch
import torch.nn.functional as F

import alexnet_lit
from tests.nets.test_alexnet import real_images

STEPS = 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("switches", "optimizer", "rate", "size"),
    [
        (("model=alexnet_2012", "model.lrn=false", "model.init=kaiming"), "adamw", 3e-4, 65),
        (("model=lenet", "model.lrn=true", "model.activation=tanh"), "sgd", 0.5, 28),
    ],
)
def test_learns_64_images_by_heart(switches: tuple[str, ...], optimizer: str, rate: float, size: int) -> None:
    torch.manual_seed(0)
    images, labels = real_images(64, image_size=size)
    net = alexnet_lit.build_net(alexnet_lit.compose(*switches, "model.dropout=0.0", f"data.image_size={size}"))
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer]
    momentum = {"momentum": 0.9, "nesterov": True} if optimizer == "sgd" else {}
    steps = kind(net.parameters(), lr=rate, fused=True, **momentum)
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
