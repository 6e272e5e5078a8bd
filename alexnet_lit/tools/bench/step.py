"""A whole training step: this project's beside a plain torch loop and torchvision's net, and what LRN adds to it."""

from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from alexnet_lit.config import compose
from alexnet_lit.factory import build
from alexnet_lit.nets import LocalResponseNorm
from alexnet_lit.tools.bench.limits import Limits, has_bf16
from alexnet_lit.tools.bench.timing import Report, alternate, conditions, ratios, spread

# Of one image: each convolution and linear layer once forward and twice backward, but no gradient of the images.
GFLOP = 2e-9 * (3 * 938_146_176 - 96 * 54 * 54 * 121)
_PLAIN, _OURS = "plain torch loop", "this project"
_LRN, _TORCHS = "this project, LRN", "this project, torch's LRN"
_OWT, _VISION = "this project, model=alexnet_owt", "the same, torchvision's net"
# On a GPU as a run has it by default there, and compiled; on a CPU with instructions for it.
_HALF, _HALF_LRN = "this project, bf16-mixed", "this project, bf16-mixed, LRN"
_COMPILED = {f"{_HALF}, model.compile={mode}": f"model.compile={mode}" for mode in ("true", "reduce-overhead")}


def bench_step(*, batch: int, repeats: int, device: str) -> Report:
    """Images/s of training steps with the course's recipe (plain SGD), dropout on, at 224 px, in float32; also in bf16
    where the device has units for it, on cuda with and without a compiler and CUDA graphs.

    The plain loop gets images that are enlarged already; this project's steps enlarge theirs.
    """
    labels = torch.randint(10, (batch,), device=device)
    small = torch.randint(256, (batch, 28, 28), dtype=torch.uint8, device=device)
    limits = Limits(device)
    cases: dict[str, Callable[[], object]] = {
        _PLAIN: _plain_step(small, labels, device),
        _OURS: our_step(small, labels, device),
        _LRN: our_step(small, labels, device, "model.lrn=true"),
        _TORCHS: our_step(small, labels, device, "model.lrn=true", wrap=_with_torchs_lrn),
        _OWT: our_step(small, labels, device, "model=alexnet_owt"),
        _VISION: our_step(small, labels, device, "model=alexnet_owt", wrap=_torchvisions),
    }
    if has_bf16(device):
        cases[_HALF] = our_step(small, labels, device, half=True)
        cases[_HALF_LRN] = our_step(small, labels, device, "model.lrn=true", half=True)
    if device == "cuda":
        cases |= {name: our_step(small, labels, device, switch, half=True) for name, switch in _COMPILED.items()}
    seconds = alternate(limits.cases | cases, repeats=repeats, device=device)
    rows = [_row(name, seconds, batch, limits) for name in cases]
    kind = "float32 where nothing else is said" if has_bf16(device) else "float32"
    how = f"batch {batch}, {kind}, medians of {repeats} rounds in turn"
    more = "ratios round by round, with their range"
    return Report("Training step", conditions(device, how, *limits.bandwidth(seconds), more), rows)


def _row(name: str, seconds: dict[str, list[float]], batch: int, limits: Limits) -> dict[str, str]:
    step = median(seconds[name])
    base = {_LRN: _OURS, _TORCHS: _OURS, _VISION: _OWT, _HALF_LRN: _HALF}.get(name)
    more = [100 * (ratio - 1) for ratio in ratios(seconds[name], seconds[base])] if base else []
    same = name not in (_OWT, _VISION)  # the course's net
    return {
        "step": name,
        "images/s": f"{batch / step:.1f}",
        "times the plain loop": spread(ratios(seconds[_PLAIN], seconds[name])) if same else "",
        **limits.shares(seconds, GFLOP * batch / step if same else None, half=name.startswith(_HALF)),
        "% more time": f"{spread(more, 0)} than {base}" if base else "",
    }


def our_step(
    images: Tensor,
    labels: Tensor,
    device: str,
    *overrides: str,
    half: bool = False,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
) -> Callable[[], object]:
    """A step of the net, pixels and optimizer of `experiment=d2l`.

    half: as under trainer.precision=bf16-mixed. wrap: puts another net in the place of ours.
    """
    module, _ = build(compose("experiment=d2l", "data=sample", *overrides))
    module.to(device)
    module.net = module.net if wrap is None else wrap(module.net)
    optimizer = module.optimizer(module.net.parameters())

    def step() -> None:
        optimizer.zero_grad()
        inputs = module.pixels(images)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = F.cross_entropy(module.net(inputs), labels)
        loss.backward()
        optimizer.step()

    return step


def _torchvisions(net: nn.Module) -> nn.Module:
    theirs = torchvision.models.AlexNet(num_classes=10)
    theirs.features[0] = nn.Conv2d(1, 64, kernel_size=11, stride=4, padding=2)
    assert isinstance(theirs, nn.Module)
    return theirs.to(next(net.parameters()).device)


def _with_torchs_lrn(net: nn.Module) -> nn.Module:
    features = net.features
    assert isinstance(features, nn.Sequential)
    for name, layer in features.named_children():
        if isinstance(layer, LocalResponseNorm):
            theirs = nn.LocalResponseNorm(layer.size, layer.alpha, layer.beta, layer.k)
            setattr(features, name, nn.Sequential(nn.ReLU(inplace=True), theirs))
    return net


def _plain_step(images: Tensor, labels: Tensor, device: str) -> Callable[[], object]:
    """The loop that the course writes, around its net."""
    net = course_net().to(device)
    large = F.interpolate(images[:, None] / 255, size=224, mode="bilinear")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(large), labels).backward()
        optimizer.step()

    return step


def course_net() -> nn.Sequential:
    """The course's net as it writes it, layer by layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 96, kernel_size=11, stride=4, padding=1), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2)),
        *(nn.Conv2d(96, 256, kernel_size=5, padding=2), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2)),
        *(nn.Conv2d(256, 384, kernel_size=3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, kernel_size=3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(kernel_size=3, stride=2)),
        *(nn.Flatten(), nn.Linear(6400, 4096), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 10)),
    )
