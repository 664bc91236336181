"""Compares the recipes with the five papers, as far as that needs none of their audio.

`make papers` prints every figure as published and as it is here. It fails if two differ and no
recipe says so. The tables of docs/papers.md are written by `python docs/papers.py --write`.
"""

import argparse
import csv
import math
import re
import sys
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from streamtag.audio.feature_config import FrameKind, Log, Order, Weighting
from streamtag.train.data.corpora.jamendo import JAMENDO_MEL, read_tracks
from streamtag.train.data.corpora.magnatagatune import NEGATIVE, SYNONYMS, random_parts
from streamtag.train.evaluation.metrics import areas, pooled, rates
from streamtag.train.evaluation.thresholds import decide, rule_thresholds
from streamtag.train.nets import NETS
from streamtag.train.nets.cpjku import (
    ChoiCrnn,
    CpjkuStage,
    CpResnet,
    FaResnet,
    Resnet34,
    ShakeFaResnet,
    ShakeShakeResidual,
)
from streamtag.train.nets.innsbruck import InnsbruckCrnn
from streamtag.train.nets.jamendo import Popularity, Vggish
from streamtag.train.nets.mobilenet import Mobilenet, MobilenetAttention, MobileNetV2
from streamtag.train.nets.model import new_model
from streamtag.train.nets.polimi import BiLstm, Cnn2d, SampleBlock, SampleCnn
from streamtag.train.nets.vqvae import Vqvae
from streamtag.train.nets.vqvae_classifiers import VqvaeCnn, VqvaeGru
from streamtag.train.recipe_table import n_tags, parameters
from streamtag.train.recipes.file import known_recipes, load_any, load_recipe
from streamtag.train.recipes.recipe import Cut, Ensemble, Recipe, Schedule, Short
from streamtag.train.training.schedule import learning_rate

HERE = Path(__file__).resolve().parent
PAGE = HERE / "papers.md"
PUBLISHED = HERE / "papers.toml"
SHARED = HERE.parents[1] / "shared" / "data"
"""Official labels, scores and tables beside the checkout; not on every machine."""
EQUAL, READING = "equal", "our reading"
NOT_STATED = "not stated"
"""What neither paper nor code says; then a recipe has our reading."""


@dataclass(frozen=True, slots=True)
class Figure:
    """Something that a paper or its authors' code says, and what it is here."""

    system: str
    what: str
    published: str
    ours: str
    stated: str = ""
    """The sentence of the recipe that says that they differ."""

    @property
    def verdict(self) -> str:
        """`equal`, `our reading`, the sentence that says why not, or what is wrong."""
        if self.published == NOT_STATED and not self.stated:
            return READING
        if (self.published == self.ours) is not bool(self.stated):
            return self.stated or EQUAL
        if self.stated:
            return f"WRONG: equal, but stated: {self.stated}"
        return "WRONG: differs, and no recipe says so"

    @property
    def is_wrong(self) -> bool:
        """Whether it differs silently, or is said to differ and does not."""
        return self.verdict.startswith("WRONG")


# -- a recipe in words -----------------------------------------------------------------------------

FIXED = {
    "gru": "exact sigmoids, reset after the product, two biases",
    "lstm": "exact sigmoids, two biases",
    "live": "on air",
    "decoder": "begins with 7 by 4",
    "pooling": "(4, 3) at the end",
    "augmented": "training",
    "order": "alphabetical",
    "batch statistics": "of all 32 clips",
    "statistics": "without the shift",
    "branches": "as wide as the single one",
}
"""What no option of a recipe changes."""
SHORT = {
    Short.WRAP: "repeated",
    Short.MINIMUM: "filled with the minimum",
    Short.EITHER: "repeated or filled with the minimum",
    Short.DISCARD: "discarded",
}


def front_end(recipe: Recipe) -> str:
    """Rate, transform, bands, logarithm and scale."""
    has = recipe.features
    integers = "16-bit integers" if has.gain == 32768 else ""
    if has.kind is FrameKind.RAW:
        return ", ".join(filter(None, [f"{has.sample_rate} Hz", f"samples as {integers}"]))
    high = has.f_max or has.sample_rate / 2
    log = f"{has.log_multiplier:g}·log10(power)"
    if has.log is Log.LN1P:
        log = f"ln(1 + {has.log_gain:g}·power)"
    if has.order is Order.LOG_MEL:
        weighted = " with A-weighting" * (has.weighting is Weighting.A)
        log = f"of {log}{weighted}"
    parts = [f"{has.sample_rate} Hz", f"FFT {has.n_fft}", f"hop {has.hop}",
             f"{has.n_mels} bands to {high:g} Hz", log]  # fmt: skip
    if has.top_db:
        peak = f"the {recipe.recordings.top_db_from}'s peak"
        parts.append(f"{has.top_db:g} dB below {peak}")
    return ", ".join(filter(None, [*parts, integers]))


def window(recipe: Recipe) -> str:
    """Its length in frames and seconds."""
    seconds = recipe.window_frames / recipe.features.frame_rate
    return f"{recipe.window_frames} frames, {seconds:.1f} s"


def cuts(recipe: Recipe) -> str:
    """Where windows are cut in training, validation and test."""
    want = recipe.recordings
    several = (Cut.DRAWN, Cut.SEGMENTS)
    parts = (want.train, want.validation, want.test)
    return " / ".join(f"{want.segments} {c}" if c in several else str(c) for c in parts)


def short(recipe: Recipe) -> str:
    """What happens to recordings that are shorter than a window."""
    want = recipe.recordings
    return f"{SHORT[want.short]} in training, {SHORT[want.short_judged]} after it"


def augmentation(recipe: Recipe) -> str:
    """Crops, masks, shifts and mixup."""
    has, parts = recipe.augment, []
    if has.crop_chance:
        parts.append(f"crops {has.crop_chance:g}")
    if has.mask_chance:
        parts.append(f"1–{has.mask_rounds} masks {has.mask_chance:g} of {has.mask_bands:.0%} of "
                     f"the bands and {has.mask_frames:.0%} of the frames")  # fmt: skip
    if has.shift_frames:
        parts.append(f"shift ± {has.shift_frames} frames")
    if has.mixup_alpha:
        order = " with a second order" if has.mixup_two_orders else ""
        parts.append(f"mixup {has.mixup_alpha:g}{order}{' and λ ≥ ½' * has.mixup_larger}")
    return ", ".join(parts) or "none"


def crop(recipe: Recipe) -> str:
    """The box that a crop keeps."""
    low, high = recipe.augment.crop_area
    literal = recipe.augment.crop_literal
    return "the centre 221 frames" if literal else f"{low:.0%} to {high:.0%} of the window"


def optimiser(recipe: Recipe) -> str:
    """Epochs, optimiser and learning rate of each stage."""
    return "; ".join(f"{s.epochs} × {s.optimizer} {s.lr:g}" for s in recipe.fit.stages)


def momentum(recipe: Recipe) -> str:
    """Of the stages with SGD."""
    found = {
        f"{s.momentum:g}{' Nesterov' * s.nesterov}"
        + (f", weight decay {s.weight_decay:g}" if s.weight_decay else "")
        for s in recipe.fit.stages
        if s.optimizer == "sgd"
    }
    kept = all(s.keep_optimizer for s in recipe.fit.stages[2:]) and len(recipe.fit.stages) > 2
    return "; ".join(sorted(found)) + ", kept in the later stages" * kept


def restarts(recipe: Recipe) -> str:
    """With which weights the stages begin."""
    if not all(stage.reload_best for stage in recipe.fit.stages[1:]):
        return "the last weights"
    rewinds = all(stage.rewind for stage in recipe.fit.stages[1:])
    most = f", {recipe.fit.max_epochs} epochs in all, counted on from the best one" * rewinds
    return f"the best weights at each stage{most}"


def schedule(recipe: Recipe) -> str:
    """How the learning rate changes within the first stage."""
    (stage, *_) = recipe.fit.stages
    if stage.schedule is Schedule.PLATEAU:
        return f"× {stage.factor:g} after {stage.plateau_patience} epochs without a lower loss"
    if stage.schedule is Schedule.LINEAR:
        return (f"{stage.warmup_epochs} epochs up from {stage.last_lr:g}, {stage.hold_epochs} "
                f"level, {stage.fall_epochs} down to {stage.last_lr:g}, "
                f"by {stage.interval}")  # fmt: skip
    return str(stage.schedule)


def patience(recipe: Recipe) -> str:
    """Epochs without improvement that end a stage."""
    return ", ".join(sorted({f"{stage.patience} epochs" for stage in recipe.fit.stages}))


def decay(recipe: Recipe) -> str:
    """Keras' decay of the learning rate."""
    return ", ".join(sorted({f"{stage.step_decay:g} per batch" for stage in recipe.fit.stages}))


def selection(recipe: Recipe) -> str:
    """What the best epoch is best in."""
    if recipe.fit.select == "last":
        return "the last epoch"
    of = "windows" if recipe.fit.per_window else "recordings"
    alone = ", of the attention" * hasattr(NETS[recipe.net.name], "selection_logits")
    return f"{recipe.fit.select} of validation {of}{', per tag' * recipe.fit.per_tag}{alone}"


def thresholds(recipe: Recipe) -> str:
    """The rule and the data of the thresholds."""
    of = "windows" if recipe.thresholds.per_window else "recordings"
    return f"{recipe.thresholds.rule} on validation {of}"


def weight_sets(recipe: Recipe | Ensemble) -> str:
    """How many sets of weights are averaged."""
    if isinstance(recipe, Ensemble):
        members = [load_recipe(name) for name in recipe.members]
        times = {member.net.options.get("rho_time") for member in members}
        alike = len({member.net.name for member in members}) == 1 and len(times) == len(members)
        return f"{len(members)} models" + " that differ in time" * alike
    if recipe.fit.per_tag:
        return "the best epoch of each tag"
    count = recipe.fit.snapshots
    return f"{count + 1} sets: the best and the last {count} averages" if count else "1 set"


def averages(recipe: Recipe) -> str:
    """Which epochs go into the mean of weights."""
    return f"from epoch {recipe.fit.swa_start}, every {recipe.fit.swa_every}"


def net_options(recipe: Recipe) -> str:
    """Name and options of the net."""
    parts = [recipe.net.name]
    for key, value in recipe.net.options.items():
        if isinstance(value, bool):
            parts.append(key if value else f"not {key}")
        else:
            parts.append(f"{key} {value}")
    return ", ".join(parts)


def norm_constants(recipe: Recipe) -> str:
    """Epsilon and momentum of the batch normalisations."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        modules = new_model(recipe, n_tags(recipe)).modules()
    norms = [m for m in modules if isinstance(m, nn.BatchNorm2d) and m.momentum is not None]
    return ", ".join(sorted({f"epsilon {m.eps:g}, momentum {m.momentum:g}" for m in norms}))


ASPECTS: Mapping[str, Callable[[Any], str]] = {
    "weights": lambda recipe: f"{parameters(recipe):,}",
    "net": net_options,
    "front end": front_end,
    "bands": lambda r: "normalised over all frames of the training" if r.fit.normalise else "as is",
    "window": window,
    "cuts": cuts,
    "short recordings": short,
    "shuffling": lambda recipe: recipe.recordings.shuffle,
    "last batch": lambda r: "left out if smaller" if r.fit.drop_last else "used",
    "epsilon": lambda r: f"{r.fit.stages[0].epsilon:g} after the correction of the bias",
    "augmentation": augmentation,
    "crop": crop,
    "batch normalisation": norm_constants,
    "begins with": lambda recipe: recipe.pretrained or "random weights",
    "data": lambda recipe: recipe.recordings.subset or "any music",
    "batch": lambda recipe: f"{recipe.fit.batch_size:,}",
    "optimiser": optimiser,
    "momentum": momentum,
    "schedule": schedule,
    "decay": decay,
    "patience": patience,
    "restarts": restarts,
    "selection": selection,
    "averages": averages,
    "thresholds": thresholds,
    "sets of weights": weight_sets,
    **{name: lambda _, text=text: text for name, text in FIXED.items()},
}  # fmt: skip
"""A recipe's value of each aspect in words."""


def system_figures() -> Iterator[Figure]:
    """Every aspect of every system in papers.toml."""
    for name, table in tomllib.loads(PUBLISHED.read_text(encoding="utf-8")).items():
        recipe = load_any(name)
        for key, value in table.items():
            published, word = value if isinstance(value, list) else (value, "")
            published = f"{published:,}" if isinstance(published, int) else published
            what = key.replace("_", " ")
            stated = ""
            if word:
                stated = next((text for text in recipe.deviates if word in text), "")
            yield Figure(name, what, published, ASPECTS[what](recipe), stated)


# -- weights and layers ----------------------------------------------------------------------------


def count(module: nn.Module) -> int:
    """Number of parameters, without batch statistics."""
    return sum(weights.numel() for weights in module.parameters())


def keras_count(net: nn.Module) -> int:
    """What Keras counts as trainable: recurrent layers with one bias instead of two."""
    second = [w for name, w in net.named_parameters() if "bias_hh" in name]
    return count(net) - sum(weights.numel() for weights in second)


def keras_total(net: nn.Module) -> int:
    """What Keras prints: batch statistics too."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    return keras_count(net) + sum(2 * norm.num_features for norm in norms)


def weight_figures() -> Iterator[Figure]:
    """The numbers of weights in the papers, or counted with their authors' classes."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        unused = next(text for text in load_any("amlag-2").deviates if "1000 classes" in text)
        for system, what, published, ours in _weights():
            stated = unused if published - ours == 1_281_000 else ""
            yield Figure(system, what, f"{published:,}", f"{ours:,}", stated)


def _weights() -> Iterator[tuple[str, str, int, int]]:
    """System, part, published number, our number."""
    yield "VGG-ish", "", 448_122, count(Vggish(56))
    for kind, parts in ((1, (4_990_208, 262_144, 4_727_809, 9_980_161)),
                        (2, (5_776_640, 262_144, 5_514_241, 11_553_025))):  # fmt: skip
        codec: Any = Vqvae(1, kind=kind)
        found = (codec.encoder, codec.codebook, codec.decoder, codec)
        for part, published, module in zip(
            ("encoder", "codebook", "decoder", "whole"), parts, found, strict=True
        ):
            yield f"VQ-VAE type {kind}", part, published, count(module)
    for kind, head, published in ((1, "repo", 6_714_168), (2, "repo", 5_534_520),
                                  (1, "paper", 3_181_624), (2, "paper", 2_001_976)):  # fmt: skip
        classifier = VqvaeGru(56, kind=kind, head=head).classifier
        yield "GRU on codes", f"type {kind}, {head}", published, count(classifier)
    for back_end, published in (("2d", 2_804_010), ("1d", 3_040_372)):
        classifier = VqvaeCnn(56, back_end=back_end).classifier
        yield "CNN on codes", back_end, published, count(classifier)
    yield "MobileNetV2", "ImageNet", 3_504_872, count(MobileNetV2(1000))
    mobile = Mobilenet(56)
    for part, published, ours in (
        ("stem", 55, count(mobile.stem)),
        ("features", 2_223_872, count(mobile.body) - 71_736),
        ("whole", 2_295_663, count(mobile)),
    ):
        yield "MobileNetV2", part, published, ours
    attention = MobilenetAttention(56)
    heads = count(attention.attention) + count(attention.alone)
    yield "with attention", "attention", 1_659_704, count(attention.attention)
    yield "with attention", "slices", 80_184, count(attention.alone)
    yield "with attention", "CNN", 9_535_007, count(attention) - heads
    yield "with attention", "whole", 11_274_895, count(attention)
    for options, torchs, kerass in (
        ({}, 394_296, 394_104),
        ({"attention": True}, 394_329, 394_137),
        ({"side": 22}, 411_632, 411_440),
        ({"side": 22, "attention": True}, 411_665, 411_473),
    ):
        net = InnsbruckCrnn(56, **options)
        said = " and ".join(str(key) if v is True else f"{v} values" for key, v in options.items())
        yield "Innsbruck's CRNN", said, torchs, count(net)
        yield "Innsbruck's CRNN", f"{said} in Keras".strip(), kerass, keras_count(net)
    for side, published in ((0, 403_896), (22, 406_712), (23, 406_840)):
        for attends in (False, True):
            net = InnsbruckCrnn(56, head="paper", side=side, attention=attends)
            said = f"paper's head, {side} values{', attention' * attends}"
            yield "Innsbruck's CRNN", said, published + 33 * attends, count(net)
    yield "SampleCNN", "", 2_119_858, count(SampleCnn(50))
    yield "SampleCNN", "Keras' total", 2_124_466, keras_total(SampleCnn(50))
    yield "2D-CNN", "", 361_970, count(Cnn2d(50))
    yield "2D-CNN", "Keras' total", 362_418, keras_total(Cnn2d(50))
    yield "BiLSTM", "", 1_023_300, count(BiLstm(50))
    yield "BiLSTM", "in Keras", 1_021_700, keras_count(BiLstm(50))
    for make, name, numbers in (
        (CpResnet, "CP-ResNet", (3_455_984, 3_587_056, 3_718_128, 3_980_272)),
        (FaResnet, "FA-ResNet", (3_468_272, 3_600_368, 3_732_464, 3_996_656)),
        (ShakeFaResnet, "Shake-Shake", (6_738_928, 7_003_120, 7_267_312, 7_795_696)),
    ):
        for rho, published in zip((4, 5, 6, 7), numbers, strict=True):
            yield name, f"ρ = {rho}", published, count(make(56, rho=rho))
    stereo = CpResnet(56, rho=5, width=512, channels=2)
    yield "CP-ResNet", "ρ = 5, 2 channels", 3_590_256, count(stereo)
    for channels, published in ((1, 21_307_128), (2, 21_310_264), (3, 21_313_400)):
        net34 = Resnet34(56, width=256 * channels, channels=channels)
        yield "ResNet-34", f"{channels} channels", published, count(net34)
    imagenet = Resnet34(1000, width=768, channels=3)
    yield "ResNet-34", "ImageNet", 21_797_672, count(imagenet)
    yield "Choi's CRNN", "96 bands", 394_488, count(ChoiCrnn(56))


def receptive_field(net: CpResnet, axis: int) -> int:
    """Bins (axis 0) or frames (axis 1) that one value of the last feature map depends on."""
    field, jump = 1, 1
    for size, stride in _strides(net, axis):
        field, jump = field + (size - 1) * jump, jump * stride
    return field


def _strides(net: CpResnet, axis: int) -> Iterator[tuple[int, int]]:
    """Kernel size and stride of every layer along an axis."""
    yield net.stem.kernel_size[axis], net.stem.stride[axis]
    for module in net.blocks:
        if isinstance(module, nn.MaxPool2d):
            yield 2, 2
        elif isinstance(module, CpjkuStage):
            residual: Any = module.residual
            if isinstance(residual, ShakeShakeResidual):
                residual = residual.branch_1
            yield residual.conv1.kernel_size[axis], 1
            yield residual.conv2.kernel_size[axis], 1


def field_figures() -> Iterator[Figure]:
    """Receptive fields by ρ, measured with the authors' class by its gradient."""
    fields = (23, 31, 39, 55, 71, 87, 103, 135, 167, 199, 231, 263, 295)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        for rho, field in enumerate(fields):
            net = CpResnet(2, rho=rho)
            found = [receptive_field(net, axis) for axis in (0, 1)]
            yield Figure("CP-ResNet", f"ρ = {rho}", f"{field} × {field}", "{} × {}".format(*found))
        for rho in range(4, 9):
            for make, name in ((FaResnet, "fa"), (ShakeFaResnet, "shake")):
                options = load_recipe(f"cpjku-{name}-{rho}").net.options
                own = make(2, **options)
                found = [receptive_field(own, axis) for axis in (0, 1)]
                yield Figure(f"cpjku-{name}-{rho}", "ρ = 5 in frequency",
                             f"{fields[5]} × {fields[rho]}", "{} × {}".format(*found))  # fmt: skip


def layer_figures() -> Iterator[Figure]:
    """Sizes of feature maps, (frequency, time) or time."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        for system, what, published, ours in _layers():
            yield Figure(system, what, published, ours)


def _sizes(net: nn.Module, kind: type[nn.Module], shape: tuple[int, ...]) -> list[Tensor]:
    """What the modules of a kind give for one window."""
    seen: list[Tensor] = []
    for module in net.modules():
        if isinstance(module, kind):
            module.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        net.eval()(torch.zeros(1, *shape))
    return seen


def _layers() -> Iterator[tuple[str, str, str, str]]:
    """System, layers, published sizes, our sizes."""

    def joined(found: list[Tensor], *, last: int = 2) -> str:
        return ", ".join("×".join(map(str, out.shape[-last:])) for out in found)

    raw = _sizes(SampleCnn(50), SampleBlock, (465_984, 1))
    published = "155328, 51776, 17258, 5752, 1917, 639, 213, 71, 23"
    yield "SampleCNN", "blocks", published, joined(raw, last=1)
    for what, kind, said in (("convolutions", nn.Conv2d, "126×259, 61×127, 28×61, 12×28"),
                             ("poolings", nn.MaxPool2d, "63×129, 30×63, 14×30, 6×14")):  # fmt: skip
        yield "2D-CNN", what, said, joined(_sizes(Cnn2d(50), kind, (261, 128)))
    ends = _sizes(BiLstm(50), nn.Conv1d, (227, 128))
    yield "BiLSTM", "convolutions", "225, 223, 221", joined(ends, last=1)
    for kind, said in ((1, "256×4×512"), (2, "256×1×512")):
        codec: Any = Vqvae(1, kind=kind)
        code = codec.encoder(torch.zeros(1, 1, 128, 1024))
        yield f"VQ-VAE type {kind}", "code", said, joined([code], last=3)
        yield f"VQ-VAE type {kind}", "output", "1×128×1024", joined([codec.decoder(code)], last=3)
    features = MobileNetV2(56).features
    for frames, said in ((6590, "1280×3×206"), (256, "1280×3×8")):
        image = torch.zeros(1, 3, 96, frames)
        yield "MobileNetV2", f"of {frames} frames", said, joined([features(image)], last=3)
    blocks = InnsbruckCrnn(56).blocks(torch.zeros(1, 1, 96, 1440))
    yield "Innsbruck's CRNN", "blocks", "128×1×15", joined([blocks], last=3)
    vgg = _sizes(Vggish(56), nn.MaxPool2d, (1366, 96))
    yield "VGG-ish", "blocks", "48×341, 24×85, 12×21, 4×4, 1×1", joined(vgg)
    bins = CpResnet(56).features(torch.zeros(1, 861, 256))
    yield "CP-ResNet", "bins at the end", "15", str(bins.shape[2])


# -- schedules -------------------------------------------------------------------------------------


def rate_figures() -> Iterator[Figure]:
    """Learning rates at the beginning of epochs, from 0, without restarts before their time."""
    (stage,) = load_recipe("cpjku-cp-resnet").fit.stages
    for epoch in (0, 1, 5, 9, 10, 69, 70, 71, 95, 119, 120, 199):
        found = {learning_rate(stage, epoch * 995 + step, 995) for step in (0, 500, 994)}
        published = f"{_cpjku_rate(epoch):.4g}"
        yield Figure("cpjku-cp-resnet", f"epoch {epoch}", published, _listed(found))
    for name in known_recipes():
        if name.startswith("cpjku") and isinstance(recipe := load_any(name), Recipe):
            stage = recipe.fit.stages[0]
            same = all(
                math.isclose(learning_rate(stage, 995 * epoch + 994, 995), _cpjku_rate(epoch))
                for epoch in range(200)
            )
            yield Figure(name, "all 200 epochs", "as above", "as above" if same else "another")
    for net in ("samplecnn", "cnn2d", "bilstm"):
        for n, stage in enumerate(load_recipe(f"polimi-{net}").fit.stages):
            steps = (0, 64_000)  # Keras' decay, per batch
            published = {0.01 * 0.2**n / (1 + 1e-6 * step) for step in steps}
            found = {learning_rate(stage, step, 640) for step in steps}
            what = f"round {n}, after 0 and 64,000 batches"
            yield Figure(f"polimi-{net}", what, _listed(published), _listed(found))
    for name in ("vggish", "amlag-2"):
        for stage, rate in zip(load_recipe(name).fit.stages, (1e-4, 1e-3, 1e-4, 1e-5), strict=True):
            found = {learning_rate(stage, step, 100) for step in (0, 1000)}
            yield Figure(name, f"{stage.optimizer} {rate:g}", f"{rate:.4g}", _listed(found))
    for name, rate in (("amlag-1", 1e-3), ("taiwan-run-1", 2e-4), ("taiwan-run-4", 2e-4)):
        (stage,) = load_recipe(name).fit.stages
        for falls in (0, 1, 2):
            found = {learning_rate(stage, 50, 100, stage.factor**falls)}
            what = f"after {falls} plateaus"
            yield Figure(name, what, f"{rate * 0.1**falls:.4g}", _listed(found))
    for run in "12345":
        (stage,) = load_recipe(f"innsbruck-run-{run}").fit.stages
        found = {learning_rate(stage, step, 778) for step in (0, 16 * 778 - 1)}
        yield Figure(f"innsbruck-run-{run}", "all epochs", "0.001", _listed(found))


def _cpjku_rate(epoch: int) -> float:
    """Koutini et al. 2019, section 2.2: 10 epochs up from a hundredth, 60 level, 50 down, rest."""
    if epoch < 10:
        return 1e-6 + (1e-4 - 1e-6) * epoch / 10
    return 1e-4 - (1e-4 - 1e-6) * min(max(epoch - 70, 0), 50) / 50


def _listed(found: set[float]) -> str:
    return ", ".join(sorted({f"{rate:.4g}" for rate in found}))


# -- data ------------------------------------------------------------------------------------------


def data_figures() -> Iterator[Figure]:
    """Frames, splits and tags."""
    frames = JAMENDO_MEL.n_frames(349_200)
    yield Figure("MTG-Jamendo", "mel frames of 29.1 s", "1366", str(frames))
    for name, said in (("polimi-cnn2d", "261"), ("polimi-bilstm", "911")):
        found = load_recipe(name).features.n_frames(465_984)
        yield Figure("MagnaTagATune", f"frames of a clip, {name}", said, str(found))
    parts = random_parts(25_863 - 3)
    found = " / ".join(f"{parts.count(p):,}" for p in ("train", "validation", "test"))
    yield Figure("MagnaTagATune", "random split", "20,480 / 1,920 / 3,460", found)
    left = 188 - len(NEGATIVE) - sum(map(len, SYNONYMS.values()))
    yield Figure("MagnaTagATune", "tags after the merge", "123", str(left))
    yield Figure("MTG-Jamendo", "training windows of Innsbruck's runs 2 to 5", "49,745",
                 f"{9949 * load_recipe('innsbruck-run-2').recordings.segments:,}")  # fmt: skip


def split_figures() -> Iterator[Figure]:
    """The numbers of split-0 in its tables."""
    tracks = read_tracks(SHARED / "mtg-jamendo", "mood/theme")
    said = {"train": ("9,949", "874", "1.798", ".0321"),
            "validation": ("3,802", "307", "1.659", ".0296"),
            "test": ("4,231", "327", "1.788", ".0319")}  # fmt: skip
    for part, published in said.items():
        rows = [track for track in tracks if track.split == part]
        tags = sum(len(track.tags) for track in rows) / len(rows)
        ours = (f"{len(rows):,}", f"{len({track.artist for track in rows}):,}", f"{tags:.3f}",
                f"{tags / 56:.4f}"[1:])  # fmt: skip
        for what, one, other in zip(
            ("tracks", "artists", "tags per track", "density"), published, ours, strict=True
        ):
            yield Figure("MTG-Jamendo split-0", f"{part}: {what}", one, other)
    names = sorted({tag for track in tracks for tag in track.tags})
    test = [track for track in tracks if track.split == "test"]
    matrix = np.array([[tag in track.tags for tag in names] for track in test])
    truth = np.load(SHARED / "metrics" / "groundtruth.npy")
    same = "the same" if np.array_equal(matrix, truth) else "another one"
    yield Figure("MTG-Jamendo split-0", "official matrix of the test", "the same", same)
    learned = [track for track in tracks if track.split == "train"]
    most = max(names, key=lambda tag: sum(tag in track.tags for track in learned))
    yield Figure("MTG-Jamendo split-0", "most frequent tag", "happy", most.partition("---")[2])


# -- official scores and thresholds ----------------------------------------------------------------

RUNS = {
    "vggish": "baseline/vggish_",
    "popular": "baseline/popular_",
    **{run: f"CP-JKU/{run}/" for run in (
        "1_shakefaresnet", "2_faresnet", "3_avg_ensemble", "4_crnn", "5_resnet34")},
}  # fmt: skip
"""The official files of each run, below `metrics`."""


def score_figures() -> Iterator[Figure]:
    """The ten official figures of seven runs, from their scores and decisions."""
    folder = SHARED / "metrics"
    published: dict[str, dict[str, str]] = {}
    for file in ("baseline.tsv", "CP-JKU.tsv"):
        with (folder / file).open(encoding="utf-8", newline="") as lines:
            published |= {row.pop(""): row for row in csv.DictReader(lines, delimiter="\t")}
    truth = np.load(folder / "groundtruth.npy")
    for run, files in RUNS.items():
        scores, decided = (
            np.load(folder / f"{files}{k}.npy") for k in ("predictions", "decisions")
        )
        for mean, shape in (("macro", np.asarray), ("micro", pooled)):
            found, said = areas(shape(truth), shape(scores)), rates(shape(truth), shape(decided))
            for key, value in (
                ("ROC-AUC", found.roc_auc), ("PR-AUC", found.pr_auc),
                ("precision", said.precision), ("recall", said.recall), ("F-score", said.f),
            ):  # fmt: skip
                name = f"{key}-{mean}"
                yield Figure(run, name, published[run][name], f"{value.mean():.6f}")


def threshold_figures() -> Iterator[Figure]:
    """Published thresholds and decisions from published scores; popularity from its own net."""
    folder = SHARED / "metrics"
    truth = np.load(folder / "groundtruth.npy")
    for run, files in RUNS.items():
        scores, decided = (
            np.load(folder / f"{files}{k}.npy") for k in ("predictions", "decisions")
        )
        if run == "popular":
            net = Popularity(56)
            net.count(torch.eye(56)[[26]])  # happy, see split_figures
            own = net(torch.zeros(len(truth), 1, 96)).numpy()
            found = decide(
                own, rule_thresholds(truth, own, load_recipe("popularity").thresholds.rule)
            )
        else:
            found = decide(scores, rule_thresholds(truth, scores))
        same = int((found == decided).all(axis=0).sum())
        yield Figure(run, "tags with the published decisions", "56", str(same))
    scores = np.load(folder / "baseline" / "vggish_predictions.npy")
    lines = (folder / "baseline" / "vggish_thresholds.txt").read_text().splitlines()
    wanted = [float(line.split("\t")[1]) for line in lines]
    same = sum(a == b for a, b in zip(rule_thresholds(truth, scores), wanted, strict=True))
    yield Figure("vggish", "published thresholds", "56", str(same))
    above = (scores > np.array(wanted)).sum(), (scores >= np.array(wanted)).sum()
    yield Figure("vggish", "decisions with > and ≥", "24333, 24390", "{}, {}".format(*above))


# -- the report and the page -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """Figures of one kind."""

    name: str
    """Of its block in the page."""
    title: str
    figures: Callable[[], Iterator[Figure]]
    needs: str = ""
    """A folder of official files, below `SHARED`."""

    @property
    def is_possible(self) -> bool:
        """Whether the files are there."""
        return not self.needs or (SHARED / self.needs).is_dir()


PARTS = (
    Part("systems", "Systems", system_figures),
    Part("weights", "Numbers of weights", weight_figures),
    Part("fields", "Receptive fields in bins × frames", field_figures),
    Part("layers", "Feature maps", layer_figures),
    Part("rates", "Learning rates", rate_figures),
    Part("data", "Frames, splits and tags", data_figures),
    Part("splits", "Split 0 of MTG-Jamendo", split_figures, "mtg-jamendo"),
    Part("scores", "Official scores", score_figures, "metrics"),
    Part("thresholds", "Thresholds", threshold_figures, "metrics"),
)


def markdown(part: Part) -> str:
    """The table of a part, or its tables by system for the first part."""
    figures = list(part.figures())
    if part.name != "systems":
        head = ("system", "", "published", "here")
        return _markdown_table(head, [(f.system, f.what, *_cells(f)) for f in figures])
    tables = []
    for name, some in groupby(figures, key=lambda figure: figure.system):
        run = load_any(name).run
        rows, before = [], set[str]()
        for figure in some:
            rows.append((figure.what, *_cells(figure, before)))
            before.add(figure.stated)
        table = _markdown_table(("", "paper and authors' code", "here"), rows)
        tables.append(f"### {name}\n\n{run[0].upper()}{run[1:]}.\n\n{table}")
    return "\n\n".join(tables)


def _cells(figure: Figure, before: Collection[str] = ()) -> tuple[str, str]:
    """The published value, and ours or that both are equal.

    Args:
        figure: the figure.
        before: sentences that the table has already.
    """
    if figure.verdict == EQUAL:
        return figure.published, EQUAL
    if figure.verdict == READING:
        return figure.published, f"{figure.ours} ({READING})"
    verdict = "As above." if figure.verdict in before else figure.verdict
    return figure.published, f"{figure.ours}. {verdict}"


def _markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def page_with(text: str, part: Part) -> str:
    """The page with the tables of a part between its marks."""
    begin, end = f"<!-- papers: {part.name} -->", "<!-- end -->"
    pattern = re.compile(rf"({re.escape(begin)}\n).*?({re.escape(end)})", re.S)
    made, found = pattern.subn(lambda m: f"{m[1]}\n{markdown(part)}\n\n{m[2]}", text)
    if found != 1:
        raise ValueError(f"{PAGE}: expected {begin} … {end} once, got {found}")
    return made


def show(console: Console, part: Part) -> int:
    """Prints a part; returns how many of its figures are wrong."""
    if not part.is_possible:
        console.print(f"[bold]{part.title}[/bold]: skipped, no {SHARED / part.needs}\n")
        return 0
    figures = list(part.figures())
    wrong = sum(figure.is_wrong for figure in figures)
    counts = {word: sum(f.verdict == word for f in figures) for word in (EQUAL, READING)}
    counts |= {"stated": len(figures) - wrong - sum(counts.values()), "wrong": wrong}
    parts = [f"{n} {word}" for word, n in counts.items() if n or word == "wrong"]
    title = f"{part.title}: {', '.join(parts)}"
    grid = Table(title=title, title_justify="left", title_style="bold", box=None)
    for name in ("system", "what", "published", "here", "verdict"):
        grid.add_column(name, overflow="fold")
    for figure in figures:
        style = "red" if figure.is_wrong else "yellow" if figure.stated else ""
        grid.add_row(figure.system, figure.what, figure.published, figure.ours, figure.verdict,
                     style=style)  # fmt: skip
    console.print(grid, "")
    return wrong


def main(arguments: list[str]) -> int:
    """The command; its exit code is 1 if a figure is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the tables of papers.md")
    parser.add_argument("--only", choices=[part.name for part in PARTS], help="show one part")
    options = parser.parse_args(arguments)
    some = [part for part in PARTS if options.only in (None, part.name)]
    console = Console(width=None if sys.stdout.isatty() else 160)
    wrong = sum(show(console, part) for part in some)
    if options.write:
        text = PAGE.read_text(encoding="utf-8")
        for part in some:
            text = page_with(text, part) if part.is_possible else text
        PAGE.write_text(text, encoding="utf-8")
    console.print(f"{wrong} figures are wrong" if wrong else "every figure is equal or stated")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
