"""Every recipe trains on a few real recordings. One recipe for each structure of a net trains until
its loss falls, becomes a bundle and goes on air; of the others one epoch of every stage is trained.

Windows are short, layers of the largest nets narrow, rates high and stages a few epochs long;
everything else is as the recipe says. `test_nets` holds the published widths, and `test_nets_live`
exports and streams every net, too.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.narrow_nets import narrow_nets
from support.paths import SHARED
from torch import Tensor

from streamtag.audio.block import Block
from streamtag.audio.front_end import frames_of
from streamtag.engine.events import Reason
from streamtag.engine.offline import TaggerResult, TagInterval, tag_blocks
from streamtag.engine.settings import TaggerSettings
from streamtag.model.tagger import Tagger
from streamtag.train import job
from streamtag.train.data.corpora import Item
from streamtag.train.data.extraction import read_samples
from streamtag.train.data.samples import Sets
from streamtag.train.data.side_values import NAMES
from streamtag.train.job import TrainingJob, train
from streamtag.train.nets.model import Model, new_model
from streamtag.train.recipes.file import known_recipes, load_any, load_recipe
from streamtag.train.recipes.recipe import Ensemble, Recipe, Schedule, Task
from streamtag.train.run_folder import RunFolder, result
from streamtag.train.training import loop as fit
from streamtag.train.training.loop import FitResult, Training
from streamtag.train.training.predictions import cross_entropy

ESC10 = SHARED / "data" / "esc10"
pytestmark = [
    pytest.mark.skipif(not ESC10.is_dir(), reason=f"no recordings at {ESC10}"),
    pytest.mark.usefixtures("loaded_once"),
]
TAGS = ("003_-_Sea_waves", "009_-_Rooster")
SPLITS = ("train", "validation", "test")
CHECKED_SECONDS = 2
"""Of the recordings for validation and test, which are heard after every epoch."""
RATE = 16000
"""Of the stream on air."""
SIZES = {
    "taiwan-vqvae": (16, 16, 16, 20, 5e-4),
    "taiwan-run-3": (32, 16, 16, 12, 1e-2),
    "taiwan-run-4": (32, 16, 16, 4, 1e-3),
    "taiwan-cnn-1d": (16, 16, 16, 12, 1e-2),
    "taiwan": (16, 16, 16, 16, 3e-3),
    "amlag-1": (128, 47, 47, 4, 1e-3),
    "amlag-2": (256, 47, 47, 12, 1e-3),
    "innsbruck": (192, 47, 94, 4, 1e-3),
    "vggish": (1280, 94, 94, 4, 1e-3),
    "popularity": (94, 47, 47, 0, 0),
    "polimi-samplecnn": (19683, 16000, 8000, 6, 1e-3),
    "polimi-cnn2d": (46, 9, 18, 6, 1e-3),
    "polimi-bilstm-early": (12, 6, 6, 6, 1e-3),
    "polimi-bilstm": (62, 31, 31, 6, 1e-3),
    "cpjku-crnn": (64, 29, 29, 4, 1e-3),
    "cpjku-resnet34": (32, 29, 29, 4, 1e-3),
    "cpjku": (32, 29, 29, 4, 5e-4),
}
"""By the beginning of the name, the first one counts: window, hop and first window in frames,
epochs of all stages together, and the learning rate, which is 20 times that with SGD."""
LARGER_BATCHES = {"taiwan-run-3": 6}
"""Windows per batch where two are too few: the last layer normalises over the batch, which leaves
nothing of two windows but the sign of their difference."""
GUESSED = 0.693
"""The cross-entropy of guessing: a net may begin below it by chance."""
AVERAGED = ("cpjku-cp-resnet", "cpjku-crnn")
"""Recipes of which means of weights are tried too; it takes a net more in the bundle."""
INCLUDED = {
    "instruments", "general", "general-2", "general-2-free", "general-2-small", "small",
    "streaming", "musicnn",
}  # fmt: skip
NAMES_OF_RECIPES = sorted(set(known_recipes()) - INCLUDED)
"""All but those of the included models."""
SIZE_OPTIONS = ("rho_freq", "rho_time", "frozen")
"""Options of nets that leave a net's modules and its forward as they are."""


def structure(name: str) -> str:
    """What recipes have in common whose nets have the same modules and the same forward."""
    recipe = load_any(name)
    if isinstance(recipe, Ensemble):
        return f"mean of {load_recipe(recipe.members[0]).net.name}"
    options = {key: x for key, x in recipe.net.options.items() if key not in SIZE_OPTIONS}
    return f"{recipe.net.name} {sorted(options.items())}"


def first_of_each_structure() -> set[str]:
    firsts: dict[str, str] = {}
    for name in NAMES_OF_RECIPES:
        firsts.setdefault(structure(name), name)
    return set(firsts.values())


WHOLE = first_of_each_structure()
"""These are trained until the loss falls, exported and put on air."""


def parameters(*, whole: bool, task: Task) -> list[Any]:
    """The recipes of a test. Members of an ensemble, and what a net begins with, belong to its
    family, which one worker trains."""
    return [
        pytest.param(name, marks=pytest.mark.xdist_group(f"recipes of {name.split('-')[0]}"))
        for name in NAMES_OF_RECIPES
        if (name in WHOLE) == whole and getattr(load_any(name), "task", Task.TAG) == task
    ]


@dataclass(frozen=True, slots=True)
class Place:
    """What all these trainings share: recordings, their frames, and finished runs."""

    folder: Path
    manifest: Path
    side: Path
    bundles: dict[str, Path] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)
    """Per recipe the cross-entropy of every batch that was learned from."""
    moved: dict[str, dict[str, bool]] = field(default_factory=dict)
    """Per recipe and parameter whether the training changed it."""
    models: dict[str, tuple[Model, Sets]] = field(default_factory=dict)
    """Per recipe that is not exported its trained model, and its data."""

    def trained(self, name: str) -> Path:
        """The bundle of a recipe; what it begins with is trained before it."""
        if name not in self.bundles:
            recipe = load_any(name)
            source: str | Path = name
            if isinstance(recipe, Ensemble):
                source = self._pair(recipe)
            elif recipe.pretrained:
                self.trained(recipe.pretrained)
            with pytest.MonkeyPatch.context() as patch:
                self._watch(patch, name)
                self.bundles[name] = train(
                    source, self.manifest, self.folder / f"{name}.pt",
                    changes=changes(recipe, name), cache=self.folder / "cache",
                    runs=self.folder / "runs", side=self.side, device="cpu",
                )  # fmt: skip
        return self.bundles[name]

    def run(self, name: str) -> Path:
        """Its run folder."""
        return self.folder / "runs" / name

    def epochs(self, name: str) -> list[float]:
        """The loss of every epoch."""
        text = (self.run(name) / "log.jsonl").read_text(encoding="utf-8")
        return [json.loads(line)["loss"] for line in text.splitlines()]

    def _watch(self, patch: pytest.MonkeyPatch, name: str) -> None:
        """Notes every cross-entropy and what changed, and leaves out checkpoints, which other
        tests look at. Only the recipes of `WHOLE` become bundles."""
        noted = self.losses.setdefault(name, [])

        def watched_fit(training: Training) -> FitResult:
            before = {key: p.detach().clone() for key, p in training.model.named_parameters()}
            found = fit.fit(training)
            after = found.members[0]
            moved = {key: not torch.equal(p, after[key]) for key, p in before.items()}
            self.moved.setdefault(training.recipe.name, moved)
            return found

        def keep(
            _: TrainingJob, __: Recipe, model: Model, sets: Sets, *___: Path, **____: Any
        ) -> None:
            self.models[name] = (model, sets)

        def entropy(logits: Tensor, targets: Tensor, weight: Tensor | None = None) -> Tensor:
            loss = cross_entropy(logits, targets, weight)
            noted.append(loss.item())
            return loss

        patch.setattr(fit, "cross_entropy", entropy)
        patch.setattr(RunFolder, "save", lambda *args: None)
        patch.setattr(job, "fit", watched_fit)
        if name not in WHOLE:
            patch.setattr(job, "write_bundle", keep)

    def _pair(self, ensemble: Ensemble) -> Path:
        """The same ensemble with two of its members, of which one epoch is trained."""
        path = self.folder / f"{ensemble.name}.toml"
        members = json.dumps(ensemble.members[1:3])
        path.write_text(f'name = "{ensemble.name}"\nmembers = {members}\n', encoding="utf-8")
        return path


@pytest.fixture(scope="module", autouse=True)
def _narrow() -> Iterator[None]:
    with narrow_nets():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(1)
    rows, sides = [["file", "tags", "split", "end"]], [["file", *NAMES]]
    for tag in TAGS:
        for path, split in zip(recordings_of(tag), SPLITS, strict=True):
            rows.append([str(path), tag, split, "" if split == "train" else str(CHECKED_SECONDS)])
            sides.append([str(path), *rng.random(len(NAMES)).round(3).astype(str).tolist()])
    for name, table in (("manifest.csv", rows), ("side.csv", sides)):
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(table)
    return Place(folder, folder / "manifest.csv", folder / "side.csv")


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Six seconds: the sea, then a rooster; (n,) float32."""
    last = [recordings_of(tag)[-1] for tag in TAGS]
    parts = [read_samples(Item(path.stem, path, (), "test"), RATE, longest=3) for path in last]
    return np.concatenate(parts)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def recordings_of(tag: str) -> list[Path]:
    return sorted((ESC10 / tag).glob("*.opus"))[: len(SPLITS)]


def changes(recipe: Recipe | Ensemble, name: str) -> list[str]:
    """What makes a recipe short; the same for all members of an ensemble."""
    if isinstance(recipe, Ensemble):
        return changes(load_recipe(member := recipe.members[1]), member)
    *frames, epochs, rate = sizes(recipe)
    if name not in WHOLE:
        epochs = 1
    averages = int(recipe.name in AVERAGED)
    batch = LARGER_BATCHES.get(name, len(TAGS))
    keys = ("window_frames", "hop_frames", "first_frames")
    return [
        *(f"{key}={value}" for key, value in zip(keys, frames, strict=True)),
        f"fit.batch_size={batch}",
        "fit.accumulate=1",  # without trying steps for their memory
        "augment.mixup_alpha=0",
        f"recordings.segments={batch // len(TAGS)}",
        "recordings.subset=",
        "recordings.split=",
        "recordings.short=wrap",
        f"fit.snapshots={averages}",
        f"fit.swa_start={2 * averages}",
        "fit.swa_every=2",
        f"fit.per_tag_members={2 * recipe.fit.per_tag}",
        *(["fit.select=last"] if recipe.task is Task.RECONSTRUCT else []),
        *(
            text
            for i in range(len(recipe.fit.stages))
            for text in shorter(recipe, i, epochs, rate, name)
        ),
    ]


def sizes(recipe: Recipe) -> tuple[float, ...]:
    return next(numbers for name, numbers in SIZES.items() if recipe.name.startswith(name))


def shorter(recipe: Recipe, i: int, epochs: float, rate: float, name: str) -> list[str]:
    """A stage of a few epochs, its rises and falls as many times shorter."""
    key, stage = f"fit.stages.{i}", recipe.fit.stages[i]
    if stage.optimizer == "sgd":
        rate *= 20
    out = [f"{key}.epochs={-(-int(epochs) // len(recipe.fit.stages))}", f"{key}.lr={rate}"]
    if stage.schedule is Schedule.LINEAR:
        rise = int(name in WHOLE)  # the only step of the others must not be one of rate 0
        out += [f"{key}.warmup_epochs={rise}", f"{key}.hold_epochs=1", f"{key}.fall_epochs=1"]
    return out


@pytest.mark.parametrize("name", parameters(whole=True, task=Task.RECONSTRUCT))
def test_an_autoencoder_learns(name: str, place: Place) -> None:
    """Its whole loss rises at first, while the encoder finds its scale and the codes follow."""
    assert place.trained(name) == place.run(name) / "weights.pt"
    recipe = load_recipe(name, changes(load_any(name), name))
    assert recipe.task is Task.RECONSTRUCT
    path = recordings_of(TAGS[0])[0]
    samples = read_samples(Item(path.stem, path, (), "train"), recipe.features.sample_rate)
    frames = torch.from_numpy(frames_of(samples, recipe.features)[: recipe.window_frames])[None]
    model, errors = new_model(recipe, len(TAGS)), []
    for weights in (model.state_dict(), result(place.run(name))[0][0]):
        model.load_state_dict(weights)
        with torch.no_grad():
            again = model.train().net(frames)
        errors.append(float((again - frames).square().mean()))
    assert errors[1] < 0.9 * errors[0]
    assert np.isfinite(place.epochs(name)).all()


@pytest.mark.parametrize("name", parameters(whole=False, task=Task.RECONSTRUCT))
def test_an_autoencoder_trains(name: str, place: Place) -> None:
    assert place.trained(name).is_file()
    check_trained(place, name)


@pytest.mark.parametrize("name", parameters(whole=False, task=Task.TAG))
def test_it_trains_and_answers(name: str, place: Place) -> None:
    place.trained(name)
    recipe = load_any(name)
    for member in recipe.members[1:3] if isinstance(recipe, Ensemble) else [name]:
        check_trained(place, member)
    model, sets = place.models[name]
    assert sets.tags == TAGS
    rng = np.random.default_rng(1)
    windows = np.stack([sets.train.sample(i, 0, rng).frames for i in range(len(TAGS))])
    with torch.inference_mode():
        answer = model.eval()(torch.from_numpy(windows))
    assert answer.shape == (len(windows), len(TAGS))
    assert ((answer >= 0) & (answer <= 1)).all()


def check_trained(place: Place, name: str) -> None:
    """One epoch of every stage ran with finite losses, and changed no weight that is frozen."""
    recipe = load_recipe(name)
    losses = place.epochs(name)
    assert len(losses) == len(recipe.fit.stages)
    assert np.isfinite(losses).all()
    moved = place.moved[name]
    trainable = {
        key for key, p in new_model(recipe, len(TAGS)).named_parameters() if p.requires_grad
    }
    assert not [key for key, changed in moved.items() if changed and key not in trainable]
    assert [key for key in trainable if moved[key]] != []


@pytest.mark.parametrize("name", parameters(whole=True, task=Task.TAG))
def test_it_learns_and_runs_live(name: str, place: Place, sound: np.ndarray) -> None:
    path = place.trained(name)
    check_losses(place, name)
    tagger = Tagger.load(path, "cpu")
    assert tagger.card.tags == TAGS
    assert tagger.card.name == name
    assert set(tagger.card.scores) >= {"validation", "test"}
    on = dict(zip(TAGS, (1e-4, 0.5), strict=True))
    found = heard(tagger, sound, on)
    scores = np.array([row.values for row in found.scores])
    assert 3 <= len(scores) <= 18
    assert ((scores > 0) & (scores < 1)).all()
    for tag, column in zip(TAGS, scores.T, strict=True):
        check_events([event for event in found.events if event.tag == tag], column >= on[tag])
    assert {event.tag for event in found.events} >= {TAGS[0]}


def check_losses(place: Place, name: str) -> None:
    """They fall, if not at every step: batches of two and nets with noise inside; of what learns
    its codes besides, that of the tags."""
    recipe = load_any(name)
    if isinstance(recipe, Ensemble) or not recipe.fit.stages:
        return
    losses = place.epochs(name)
    assert len(losses) >= sizes(recipe)[3]
    assert np.isfinite(losses).all()
    if recipe.net.options.get("frozen") is False:
        losses = place.losses[name]
    assert min(losses[1:]) < 0.99 * max(losses[0], GUESSED), losses


def heard(tagger: Tagger, sound: np.ndarray, on: dict[str, float]) -> TaggerResult:
    """What comes out on air with these thresholds and no smoothing; every tag may switch."""
    settings = TaggerSettings(on_thresholds=on, off_thresholds=on, smoothing_seconds=0,
                        min_on_seconds=0, min_off_seconds=0, tags=TAGS)  # fmt: skip
    blocks = [Block(sound[i : i + 4000], i, RATE) for i in range(0, len(sound), 4000)]
    return tag_blocks(blocks, RATE, {"m": tagger}, settings={"m": settings})["m"]


def check_events(events: Sequence[TagInterval], above: np.ndarray) -> None:
    """A tag is on as often as its scores rise to its threshold, and every time it ends."""
    rises = np.diff(np.concatenate([[False], above]).astype(int)) == 1
    assert len(events) == rises.sum()
    assert all(0 <= event.on <= event.off <= 6 for event in events)
    assert all(before.off <= after.on for before, after in pairwise(events))
    expected = [Reason.BELOW_THRESHOLD] * len(events)
    if above[-1]:
        expected[-1] = Reason.STREAM_CLOSED
    assert [event.reason for event in events] == expected
