"""LeNet equals a plain nn.Sequential written from the course's description."""

import torch
from torch import nn

import alexnet_lit
from alexnet_lit.nets import LeNet


def reference() -> nn.Sequential:
    """Dive into Deep Learning, chapter LeNet, layer by layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, kernel_size=5, padding=2), nn.Sigmoid(), nn.AvgPool2d(kernel_size=2, stride=2)),
        *(nn.Conv2d(6, 16, kernel_size=5), nn.Sigmoid(), nn.AvgPool2d(kernel_size=2, stride=2)),
        nn.Flatten(),
        *(nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10)),
    )


def test_equals_the_course_net() -> None:
    ours = alexnet_lit.build_net(alexnet_lit.compose("model=lenet", "data.image_size=28"))
    theirs = reference()
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine)
    images = torch.randn(3, 1, 28, 28)

    assert isinstance(ours, LeNet)
    assert sum(parameter.numel() for parameter in ours.parameters()) == 61_706
    names = ["features.conv1", "features.conv2", "classifier.linear3", "classifier.linear4", "classifier.linear5"]
    assert list(ours.state_dict()) == [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-5)


def test_every_idea_is_a_switch_here_too() -> None:
    norm = ("lrn=true", "lrn_size=3", "lrn_alpha=0.01", "lrn_beta=0.5", "lrn_k=1.0", "lrn_reduction=mean")
    switches = [f"model.{switch}" for switch in (*norm, "overlapping_pool=true", "dropout=0.5", "activation=tanh")]
    ours = alexnet_lit.build_net(alexnet_lit.compose("model=lenet", "data.image_size=28", *switches))
    theirs = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.LocalResponseNorm(3, 0.01, 0.5, 1.0), nn.AvgPool2d(3, 2)),
        *(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.LocalResponseNorm(3, 0.01, 0.5, 1.0), nn.AvgPool2d(3, 2)),
        nn.Flatten(),
        *(nn.Linear(256, 120), nn.Tanh(), nn.Dropout(0.5), nn.Linear(120, 84), nn.Tanh(), nn.Dropout(0.5)),
        nn.Linear(84, 10),
    )
    images = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine)

    logits = []
    for net in (ours, theirs):
        torch.manual_seed(0)  # the same units are dropped
        logits.append(net(images))

    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
