"""ImageNet weights as torchvision publishes them, under the names of our nets.

A checkpoint such as `mobilenet_v2-b0353104.pth` or `resnet34-b627a593.pth` is the `state_dict` of
`torchvision.models.mobilenet_v2` or `resnet34`. Every weight but the classifier's is used, under an
explicit name; a weight that is missing or left over is refused. torchvision itself is not needed.

MobileNetV2 gets three channels from the stem before it, so its first convolution fits as it is
(Sukhavasi and Adapa 2019, their code). The first convolution of ResNet-34 sees the colours of an
image. For recordings of other than three channels its kernels are summed over the colours and
divided by the number of channels: one channel then gives what a grey image would give.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from streamtag.errors import RecipeError
from streamtag.train.nets.cpjku import RESNET34_STAGES

State = dict[str, Tensor]
COLOURS = 3
"""Input channels of ImageNet's nets."""
COUNTER = "num_batches_tracked"
"""End of the name of a counter that older checkpoints lack and that no output depends on."""


@dataclass(frozen=True, slots=True)
class ImageNet:
    """How the names of a net of torchvision lead to those of ours."""

    title: str
    """The function of torchvision that makes the net."""
    prefix: str
    """Where the net is within ours."""
    classifier: str
    """Beginning of the names that are left out."""
    name: Callable[[str], str]
    """Their name to ours."""
    first: str
    """Our name of the first convolution."""


def _mobilenet_name(name: str) -> str:
    return re.sub(r"^(features\.\d+)\.conv\.", r"\1.layers.", name)


def _resnet_name(name: str) -> str:
    if (found := re.fullmatch(r"layer([1-4])\.(\d+)\.(.+)", name)) is None:
        return re.sub(r"^bn1\.", "norm.", re.sub(r"^conv1\.", "stem.", name))
    stage, block, rest = int(found[1]), int(found[2]), found[3]
    number = sum(count for _, count, _ in RESNET34_STAGES[: stage - 1]) + block
    if rest.startswith("downsample."):
        rest = rest.replace("downsample.0", "shortcut.conv").replace(
            "downsample.1", "shortcut.norm"
        )
        return f"blocks.{number}.{rest}"
    return f"blocks.{number}.residual.{rest}"


def _mobilenet(prefix: str) -> ImageNet:
    first = f"{prefix}features.0.0.weight"
    return ImageNet("mobilenet_v2", prefix, "classifier.", _mobilenet_name, first)


NETS_OF_IMAGENET = {
    "mobilenet": _mobilenet("body."),
    "mobilenet-attention": _mobilenet(""),
    "resnet34": ImageNet("resnet34", "", "fc.", _resnet_name, "stem.weight"),
}
"""By our name of the net."""


def imagenet_weights(state: State, net: str, target: State, source: str) -> State:
    """The weights of a checkpoint for one of our nets, by our names.

    Args:
        state: the checkpoint.
        net: a key of `nets.NETS`.
        target: the net's own weights, for names and shapes.
        source: name of the checkpoint, for messages.

    Returns:
        The weights that replace those of `target`; what the net has besides is not in it.

    Raises:
        RecipeError: ImageNet's weights are not for this net, a weight is missing or left over, or
            has another shape.
    """
    if net not in NETS_OF_IMAGENET:
        raise RecipeError(
            f"{source}: expected one of the nets that ImageNet's weights fit "
            f"({', '.join(NETS_OF_IMAGENET)}), got {net!r}: begin with a run or a bundle of that "
            "net (`streamtag import` makes bundles of published checkpoints)"
        )
    kind = NETS_OF_IMAGENET[net]
    found = {
        kind.prefix + kind.name(name): value
        for name, value in state.items()
        if not name.startswith(kind.classifier)
    }
    if kind.first in found:
        found[kind.first] = _for_channels(found[kind.first], target[kind.first])
    fresh = _fresh(kind, target)
    wanted = {name for name in target if name not in fresh and not name.endswith(COUNTER)}
    left_over = found.keys() - (target.keys() - fresh)
    wrong = {n for n in wanted & found.keys() if found[n].shape != target[n].shape}
    faults = [f"no {name}" for name in sorted(wanted - found.keys())]
    faults += [f"{name} left over" for name in sorted(left_over)]
    faults += [f"{n} of shape {tuple(found[n].shape)}" for n in sorted(wrong)]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise RecipeError(
            f"{source}: expected the state_dict of torchvision's {kind.title} for net {net!r}, got "
            f"{', '.join(faults[:3])}{more}: fetch the checkpoint of {kind.title}"
        )
    return found


def _for_channels(kernels: Tensor, ours: Tensor) -> Tensor:
    """(outputs, 3, h, w) kernels of colours for the channels of `ours`; others as they are."""
    channels = ours.shape[1]
    if kernels.dim() != 4 or kernels.shape[1] != COLOURS or channels == COLOURS:
        return kernels
    return torch.sum(kernels, dim=1, keepdim=True).div(channels).repeat(1, channels, 1, 1)


def _fresh(kind: ImageNet, target: State) -> set[str]:
    """Our weights that ImageNet has nothing for: the stem before it and what comes after it."""
    if kind.title == "resnet34":
        return {name for name in target if name.startswith("dense.")}
    return {name for name in target if not name.startswith(f"{kind.prefix}features.")}
