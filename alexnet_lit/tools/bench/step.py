"""Training steps compared with a plain torch loop and torchvision's net, and the cost of LRN."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from statistics import median

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from alexnet_lit.config import compose
from alexnet_lit.factory import build
from alexnet_lit.nets import LocalResponseNorm
from alexnet_lit.nets.kernels import lrn_plain
from alexnet_lit.nets.lrn import Normalise
from alexnet_lit.tools.bench.timing import Case, Table, alternate, has_bf16, limits, ratios, shares, spread

# Of one image: each convolution and linear layer once forward and twice backward, but no gradient of the images.
GFLOP = 2e-9 * (3 * 938_146_176 - 96 * 54 * 54 * 121)
_PLAIN, _OURS, _HALF = "plain torch loop", "this project", "this project, bf16-mixed"
_OWT, _VISION = "this project, model=alexnet_owt", "the same, torchvision's net"
_LRN = "model.lrn=true"
# What each is compared with for its additional time.
_BASES = {f"{_OURS}, LRN": _OURS, _VISION: _OWT, f"{_HALF}, LRN": _HALF}
_LRN_SHAPES = ((96, 54, 54), (256, 26, 26))  # what follows conv1 and conv2 of the course's net at 224 px
_LRN_SETTINGS = (5, 1e-4, 0.75, 2.0)
_LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def bench_step(*, batch: int, repeats: int, device: str) -> Table:
    """Images/s of training steps with the course's recipe (plain SGD), dropout on, at 224 px, in float32; also in bf16
    where the device has units for it, on cuda with and without a compiler and CUDA graphs.

    The plain loop gets images that are enlarged already; this project's steps enlarge theirs.
    """
    small, labels = random_batch(batch, device)
    step = partial(our_step, small, labels, device)
    cases: dict[str, Case] = {
        _PLAIN: _plain_step(small, labels, device),
        _OURS: step(),
        f"{_OURS}, LRN": step([_LRN]),
        _OWT: step(["model=alexnet_owt"]),
        _VISION: step(wrap=_torchvisions_net),
    }
    if has_bf16(device):
        cases |= {_HALF: step(half=True), f"{_HALF}, LRN": step([_LRN], half=True)}
    for mode in ("true", "reduce-overhead") if device == "cuda" else ():
        cases[f"{_HALF}, model.compile={mode}"] = step([f"model.compile={mode}"], half=True)
    seconds = alternate(limits(device) | cases, repeats, device)
    rows = []
    for name in cases:
        speed, base = batch / median(seconds[name]), _BASES.get(name)
        is_course_net = name not in (_OWT, _VISION)
        more = [100 * (ratio - 1) for ratio in ratios(seconds[name], seconds[base])] if base else []
        rows.append(
            {
                "step": name,
                "images/s": f"{speed:.1f}",
                "times the plain loop": spread(ratios(seconds[_PLAIN], seconds[name])) if is_course_net else "",
                **shares(seconds, device, GFLOP * speed if is_course_net else None, half=name.startswith(_HALF)),
                "% more time": f"{spread(more, 0)} than {base}" if base else "",
            }
        )
    how = f"batch {batch}, float32 where nothing else is said, medians of {repeats} rounds; ratios round by round"
    return {"title": "Training step", "how": how, "rows": rows}


def bench_lrn(*, batch: int, repeats: int, device: str) -> Table:
    """Seconds of a forward and a backward pass of local response normalisation: ours, compiled and not; torch's.

    In float32, and in bfloat16 where the device has units for it; torch's layer takes no bfloat16 on a CPU.
    """
    size, alpha, beta, k = _LRN_SETTINGS
    layers: dict[str, Callable[[Tensor], Tensor]] = {
        "ours": LocalResponseNorm(*_LRN_SETTINGS, reduction="mean"),
        "plain": lambda x: Normalise.apply(x, lrn_plain, size, alpha / size, beta, k, False),
        "torch": nn.LocalResponseNorm(*_LRN_SETTINGS),
    }
    rows = []
    for dtype, shape, layout in product((torch.float32, torch.bfloat16), _LRN_SHAPES, _LAYOUTS):
        if dtype == torch.bfloat16 and not has_bf16(device):
            continue
        x = torch.randn(batch, *shape, device=device).to(dtype).contiguous(memory_format=_LAYOUTS[layout])
        x.requires_grad_()
        has_torch = dtype == torch.float32 or device == "cuda"
        names = [name for name in layers if name != "torch" or has_torch]
        cases = {name: partial(_pass, layers[name], x, torch.randn_like(x)) for name in names}
        seconds = alternate(cases, repeats, device)
        rows.append(
            {
                "input": str(tuple(x.shape)),
                "memory format": layout,
                "numbers": str(dtype).removeprefix("torch."),
                "ours, s": f"{median(seconds['ours']):.4f}",
                "ours in torch's operations, s": f"{median(seconds['plain']):.4f}",
                "torch, s": f"{median(seconds['torch']):.4f}" if has_torch else "",
                "torch / ours": spread(ratios(seconds["torch"], seconds["ours"]), 1) if has_torch else "",
            }
        )
    how = f"forward and backward, medians of {repeats} rounds; ratios round by round, with their range"
    return {"title": "Local response normalisation", "how": how, "rows": rows}


def _pass(layer: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(layer(x), x, gradient)


def random_batch(batch: int, device: str) -> tuple[Tensor, Tensor]:
    """Images uint8 (batch, 28, 28) and labels (batch,)."""
    images = torch.randint(256, (batch, 28, 28), dtype=torch.uint8, device=device)
    return images, torch.randint(10, (batch,), device=device)


def our_step(
    images: Tensor,
    labels: Tensor,
    device: str,
    overrides: Sequence[str] = (),
    *,
    half: bool = False,
    wrap: Callable[[nn.Module], nn.Module] | None = None,
) -> Case:
    """A step of the net, preprocessing and optimizer of `experiment=d2l`.

    half: as under trainer.precision=bf16-mixed. wrap: from our net, on the device, to the one that is trained.
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


def _plain_step(images: Tensor, labels: Tensor, device: str) -> Case:
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


def _torchvisions_net(net: nn.Module) -> nn.Module:
    theirs = torchvision.models.AlexNet(num_classes=10)
    theirs.features[0] = nn.Conv2d(1, 64, kernel_size=11, stride=4, padding=2)
    assert isinstance(theirs, nn.Module)
    return theirs.to(next(net.parameters()).device)
