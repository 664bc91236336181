"""Compares all single nets: accuracy after the same training time on the same data, and cost.

Every net is trained from scratch on its paper's front end, for the same CPU time of one core (so
that other load does not count), with the same optimiser, schedule and mixup. Pre-trained nets spend
half of the time on pre-training. Two tasks:

* `esc10`: ten kinds of sound, 5 s clips, official folds (train on the others, test on the fold);
* `mixtures`: which of 15 instruments play in 3 s mixed from single notes; test notes are unseen.

    python benchmarks/nets.py --data ../shared/data --budget 60       # hours; rows go to the file
    python benchmarks/nets.py --table                                 # table and plot from the file
"""

import argparse
import concurrent.futures
import csv
import dataclasses
import fcntl
import itertools
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "nets.json"
PICTURE = HERE.parent / "docs" / "nets.png"
PAGE = HERE.parent / "docs" / "models-method.md"
BEGIN, END = "<!-- nets -->", "<!-- /nets -->"
SECONDS = {"esc10": 5.0, "mixtures": 3.0}
BATCH = 8
SETTLING = 20
"""The number of batches for the final batch statistics, outside of the budget."""
MOST_EPOCHS = 60
MIXTURES = {"train": 1200, "test": 150}


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the table."""

    label: str
    recipe: str


CONTENDERS = (
    Contender("VGG-ish baseline", "vggish"),
    Contender("VQ-VAE 1 + GRU, joint", "taiwan-run-1"),
    Contender("VQ-VAE 1 + GRU, frozen", "taiwan-run-2"),
    Contender("VQ-VAE 1 + CNN, joint", "taiwan-run-3"),
    Contender("VQ-VAE 1 + CNN, frozen", "taiwan-run-4"),
    Contender("VQ-VAE 2 + GRU, joint", "taiwan-run-5"),
    Contender("MobileNetV2", "amlag-1"),
    Contender("MobileNetV2 + self-attention", "amlag-2"),
    Contender("CRNN (Innsbruck)", "innsbruck-run-2"),
    Contender("CRNN + attention", "innsbruck-run-3"),
    Contender("CRNN + own descriptors", "innsbruck-own-features"),
    Contender("SampleCNN", "polimi-samplecnn"),
    Contender("2D-CNN", "polimi-cnn2d"),
    Contender("BiLSTM", "polimi-bilstm"),
    Contender("CP-ResNet, ρ 5", "cpjku-cp-resnet"),
    Contender("FA-ResNet, ρ 5", "cpjku-fa-5"),
    Contender("Shake-Shake FA-ResNet, ρ 5", "cpjku-shake-5"),
    Contender("ResNet-34", "cpjku-resnet34"),
    Contender("CRNN (Choi)", "cpjku-crnn"),
    Contender("small (ours)", "instruments"),
    Contender("popularity", "popularity"),
)


def main() -> None:
    """Runs what is missing in the results, or one of them, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with esc10 and philharmonia")
    parser.add_argument("--work", type=Path, default=Path("data/nets"), help="caches and runs")
    parser.add_argument("--budget", type=float, default=60, help="seconds of one core per net")
    parser.add_argument("--folds", default="1", help="of ESC-10, such as 1,2")
    parser.add_argument("--jobs", type=int, default=2, help="at a time")
    parser.add_argument("--only", help="label of one net")
    parser.add_argument("--task", choices=SECONDS)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    if given.table:
        write_table(json.loads(given.results.read_text()))
    elif given.only and given.task:
        contender = next(c for c in CONTENDERS if c.label == given.only)
        print(json.dumps(run(contender, given.task, given.fold, given)))
    else:
        run_all(given)


def run_all(given: argparse.Namespace) -> None:
    """Every missing row in a process of its own."""
    rows = json.loads(given.results.read_text()) if given.results.exists() else []
    done = {(row["net"], row["task"], row["fold"]) for row in rows}
    wanted = [*(("esc10", int(fold)) for fold in given.folds.split(",")), ("mixtures", 0)]
    jobs = [
        (contender, task, fold)
        for task, fold in wanted
        for contender in CONTENDERS
        if (contender.label, task, fold) not in done
        and (given.only is None or contender.label == given.only)
    ]
    make_mixtures(given.data, given.work)
    make_esc10(given.data, given.work)
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        futures = [pool.submit(in_process, given, *job) for job in jobs]
        for future in concurrent.futures.as_completed(futures):
            if (row := future.result()) is not None:
                rows.append(row)
                given.results.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
                print(f"{len(rows):3d}  {row['net']:32s} {task_of(row)}  {row['pr_auc']:.3f}")


def task_of(row: dict[str, Any]) -> str:
    """The task and fold as text."""
    return f"{row['task']} {row['fold'] or ''}"


def in_process(
    given: argparse.Namespace, contender: Contender, task: str, fold: int
) -> dict[str, Any] | None:
    """One row, made by this script in another process."""
    command = [sys.executable, __file__, "--data", str(given.data), "--work", str(given.work)]
    command += ["--budget", str(given.budget), "--only", contender.label, "--task", task]
    done = subprocess.run([*command, "--fold", str(fold)], capture_output=True, text=True)
    if done.returncode:
        print(f"{contender.label} {task} {fold}: failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def run(contender: Contender, task: str, fold: int, given: argparse.Namespace) -> dict[str, Any]:
    """Trains one net for its budget and evaluates it."""
    import torch

    from streamtag.train.data.loader import BatchShare
    from streamtag.train.data_sets import TrainingJob, make_sets
    from streamtag.train.evaluation.metrics import macro, per_tag
    from streamtag.train.job import train_net
    from streamtag.train.progress import TrainingProgress
    from streamtag.train.recipes.file import load_recipe
    from streamtag.train.training.distributed import keep_freed_memory
    from streamtag.train.training.predictions import predict

    torch.set_num_threads(1)
    keep_freed_memory()
    base = load_recipe(contender.recipe)
    recipe = adapted(base, SECONDS[task])
    manifest = given.work / (f"{task}.csv" if task == "mixtures" else f"{task}-{fold}.csv")
    job = TrainingJob(manifest, given.work / "cache", given.work / "runs" / f"{task}-{fold}",
              TrainingProgress(), BatchShare(), torch.device("cpu"))  # fmt: skip
    sets, budget, spent = make_sets(job, recipe), given.budget, 0.0
    if recipe.pretrained:
        budget /= 2
        first = adapted(load_recipe(recipe.pretrained), SECONDS[task])
        first = dataclasses.replace(first, window_frames=recipe.window_frames)
        spent = pretrain(job, first, sets, budget)
    recipe, train_set = within(recipe, sets, budget)
    began = time.process_time()
    model = train_net(job, recipe, dataclasses.replace(sets, train=train_set))
    spent += time.process_time() - began
    model = settled(model, recipe, train_set)
    verdict = predict(model, sets.tests["test"])
    table = per_tag(sets.tags, verdict.truth, verdict.logits)
    right = verdict.logits.argmax(axis=1) == verdict.truth.argmax(axis=1)
    steps = recipe.fit.stages[0].epochs * -(-len(train_set) // BATCH) if recipe.fit.stages else 0
    return {
        "net": contender.label,
        "recipe": contender.recipe,
        "task": task,
        "fold": fold,
        "parameters": sum(p.numel() for p in model.net.parameters()),
        "window_seconds": round(recipe.window_frames / recipe.features.frame_rate, 2),
        "passes": round(steps * BATCH / len(sets.train), 2),
        "train_recordings": len(sets.train),
        "test_recordings": len(verdict.truth),
        "cpu_seconds": round(spent, 1),
        "budget": given.budget,
        "accuracy": round(float(right.mean()), 4) if task == "esc10" else None,
        "pr_auc": round(macro(table, "pr_auc"), 4),
        "roc_auc": round(macro(table, "roc_auc"), 4),
        "prior": round(macro(table, "prior"), 4),
        **cost(recipe, model, sets.tags, given.work / "bundles"),
    }


def settled(model: Any, recipe: Any, train_set: Any) -> Any:
    """The model with batch statistics of its last weights: running means lag after few steps."""
    from streamtag.train.data.loader import Loader
    from streamtag.train.training.loop import cpu_weights, with_statistics

    batches = itertools.islice(Loader(train_set, recipe, plain=True).epoch(0), SETTLING)
    return with_statistics(model, cpu_weights(model), batches)


def adapted(base: Any, seconds: float) -> Any:
    """A paper's recipe with the common training settings and the window of the task."""
    from streamtag.errors import RecipeError
    from streamtag.train.nets.model import new_model
    from streamtag.train.recipes.recipe import Augment, Fit, Recordings, Schedule, Stage

    stage = Stage(1, 1e-3, optimizer="adamw", schedule=Schedule.COSINE, warmup=0.1,
                  weight_decay=0.01)  # fmt: skip
    stages = (stage,) if base.fit.stages else ()
    frames = int(seconds * base.features.frame_rate) // 2 * 2
    made = dataclasses.replace(
        base,
        mixtures=None,
        tags=(),
        window_frames=frames,
        first_frames=min(frames, base.first_frames),
        recordings=Recordings(side=0),
        augment=Augment(mixup_alpha=0.3),
        fit=Fit(BATCH, stages, select="last", clip_norm=5.0, normalise=base.fit.normalise),
    )
    try:
        new_model(made, 2)
    except RecipeError:  # the window is too short for the net: recordings are repeated instead
        return dataclasses.replace(made, window_frames=base.window_frames)
    return made


class Part:
    """A dataset of `n` windows per epoch; each epoch continues where the last one ended."""

    def __init__(self, whole: Any, n: int) -> None:
        self._whole, self._n = whole, n
        self.tags, self.owners = whole.tags, np.arange(n)

    def __len__(self) -> int:
        return self._n

    def truth(self) -> np.ndarray:
        return self._whole.truth()

    def sample(self, i: int, epoch: int, rng: np.random.Generator) -> Any:
        turn, place = divmod(epoch * self._n + i, len(self._whole))
        order = np.random.default_rng([turn, 11]).permutation(len(self._whole))
        return self._whole.sample(int(order[place]), epoch, rng)


def within(recipe: Any, sets: Any, budget: float) -> tuple[Any, Any]:
    """The recipe with as many epochs as fit the budget, and its training set, cut if needed."""
    if not recipe.fit.stages:
        return recipe, sets.train
    bearable = max(2, int(budget / seconds_per_step(recipe, sets)))
    steps = -(-len(sets.train) // BATCH)
    epochs = min(MOST_EPOCHS, -(-bearable // steps))
    windows = min(len(sets.train), bearable * BATCH // epochs)
    stage = dataclasses.replace(recipe.fit.stages[0], epochs=epochs)
    made = dataclasses.replace(recipe, fit=dataclasses.replace(recipe.fit, stages=(stage,)))
    return made, sets.train if windows >= len(sets.train) else Part(sets.train, windows)


def seconds_per_step(recipe: Any, sets: Any) -> float:
    """What a training step of this net costs on one core, by the process' own clock."""
    from streamtag.train.data.loader import Loader
    from streamtag.train.nets.model import new_model
    from streamtag.train.training.loop import LossModule, Training, criterion_of, training_step
    from streamtag.train.training.schedule import make_optimizer

    model = new_model(recipe, len(sets.tags)).train()
    t = Training(recipe, model, sets.train, None, None)  # type: ignore[arg-type]
    step, optimizer = (
        LossModule(model, criterion_of(t)),
        make_optimizer(recipe.fit.stages[0], model.parameters()),
    )
    took, batches = [], Loader(sets.train, recipe).epoch(0)
    for _ in range(4):
        began = time.process_time()
        training_step(t, step, optimizer, 1e-5, next(batches))
        took.append(time.process_time() - began)
    return float(np.median(took[1:]))


def pretrain(job: Any, recipe: Any, sets: Any, budget: float) -> float:
    """Makes the weights that a classifier begins with, once per task; returns the seconds spent."""
    from streamtag.train.job import train_net

    note = job.runs / recipe.name / "seconds"
    note.parent.mkdir(parents=True, exist_ok=True)
    with (note.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes wait for the same weights
        if note.exists():
            return float(note.read_text())
        recipe, train_set = within(recipe, sets, budget)
        began = time.process_time()
        train_net(job, recipe, dataclasses.replace(sets, train=train_set))
        note.write_text(f"{time.process_time() - began}")
        return float(note.read_text())


def cost(recipe: Any, model: Any, tags: tuple[str, ...], folder: Path) -> dict[str, float]:
    """Milliseconds of one core per window, and seconds per hour of audio at a window a second."""
    from streamtag.audio.front_end import frames_of
    from streamtag.model.tagger import Tagger
    from streamtag.train.data.samples import Sets
    from streamtag.train.exporting.bundle import export
    from streamtag.train.training.card import make_card

    path = folder / f"{recipe.name}.pt"
    folder.mkdir(parents=True, exist_ok=True)
    export(model, make_card(recipe, model, Sets(tags, None, None)), path)  # type: ignore[arg-type]
    tagger = Tagger.load(path, "cpu")
    tagger.warm_up([1])
    window = tagger.staging(1)
    per_window = median_seconds(lambda: tagger(window))
    minute = np.random.default_rng(0).normal(0, 0.1, 60 * recipe.features.sample_rate)
    samples = minute.astype(np.float32)
    front_end = 60 * median_seconds(lambda: frames_of(samples, recipe.features), 3)
    return {
        "ms_per_window": round(1e3 * per_window, 3),
        "seconds_per_hour": round(3600 * per_window + front_end, 2),
        "front_end_seconds_per_hour": round(front_end, 3),
        "bundle_mb": round(path.stat().st_size / 1e6, 2),
    }


def median_seconds(work: Any, repeats: int = 15) -> float:
    """Of the process' own time per call."""
    work()
    took = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return float(np.median(took))


# -- data ------------------------------------------------------------------------------------------


def make_esc10(data: Path, work: Path) -> None:
    """A manifest per fold: that fold is the test, all others are for training."""
    clips = sorted((data / "esc10").glob("*/*.opus"))
    work.mkdir(parents=True, exist_ok=True)
    for fold in range(1, 6):
        with (work / f"esc10-{fold}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "tags", "split"])
            for clip in clips:
                part = "test" if clip.name[0] == str(fold) else "train"
                table.writerow([clip.resolve(), clip.parent.name.split("_-_")[1], part])


def make_mixtures(data: Path, work: Path, rate: int = 44100) -> None:
    """Mixtures of single notes, and their manifest: one to three instruments in each."""
    import soundfile

    from streamtag.train.synthesis.notes import read, samples, split_of, trim

    if (work / "mixtures.csv").exists():
        return
    folder = work / "mixtures"
    folder.mkdir(parents=True, exist_ok=True)
    notes: dict[str, dict[str, list[Path]]] = {"train": {}, "test": {}}
    for note in samples(data):
        if "philharmonia" in note.path.parts and note.instrument != "percussion":
            part = "train" if split_of(note.key) == "train" else "test"
            notes[part].setdefault(note.instrument, []).append(note.path)
    rng = np.random.default_rng(5)
    rows = []
    for part, count in MIXTURES.items():
        names = sorted(notes[part])
        for i in range(count):
            chosen = rng.choice(names, size=int(rng.integers(1, 4)), replace=False)
            out = np.zeros(round(SECONDS["mixtures"] * rate), np.float32)
            for name in chosen:
                at = 0
                while at < len(out) - rate // 10:
                    path = notes[part][name][int(rng.integers(len(notes[part][name])))]
                    sound = trim(read(path, rate), rate)[: len(out) - at]
                    out[at : at + len(sound)] += sound * np.float32(rng.uniform(0.3, 1))
                    at += max(rate // 5, len(sound))
            path = folder / f"{part}-{i:04d}.flac"
            soundfile.write(path, 0.9 * out / max(1e-3, float(np.abs(out).max())), rate)
            rows.append([f"mixtures/{path.name}", ";".join(chosen), part])
    with (work / "mixtures.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "tags", "split"], *rows])


# -- table and plot --------------------------------------------------------------------------------


def write_table(rows: list[dict[str, Any]]) -> None:
    """The table into docs/models-method.md, the plot beside the other pictures."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{markdown(rows)}\n{END}{after}", encoding="utf-8")
    plot(rows, PICTURE)


def markdown(rows: list[dict[str, Any]]) -> str:
    """A line per net: what it learned on either task, and what it costs."""
    lines = [
        "| net | parameters | ESC-10 accuracy | ESC-10 PR-AUC | mixtures PR-AUC | passes over the "
        "data | ms per window | CPU s per hour of audio |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    ranked = sorted({row["net"] for row in rows}, key=lambda net: -_mean(rows, net, "pr_auc"))
    for net in ranked:
        esc = [row for row in rows if row["net"] == net and row["task"] == "esc10"]
        mix = [row for row in rows if row["net"] == net and row["task"] == "mixtures"]
        both = [*esc, *mix]
        cells = [net, f"{both[0]['parameters']:,}"]
        cells += [_cell(esc, "accuracy"), _cell(esc, "pr_auc"), _cell(mix, "pr_auc")]
        cells.append(" / ".join(f"{some[0]['passes']:.3g}" for some in (esc, mix) if some))
        last = (esc or mix)[0]
        cells += [f"{last['ms_per_window']:.1f}", f"{last['seconds_per_hour']:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(rows: list[dict[str, Any]], key: str) -> str:
    values = [row[key] for row in rows if row[key] is not None]
    return f"{np.mean(values):.3f}" if values else "–"


def _mean(rows: list[dict[str, Any]], net: str, key: str) -> float:
    return float(np.mean([row[key] for row in rows if row["net"] == net]))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """PR-AUC against the cost of a window, one panel per task."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    for panel, task in zip(figure.subplots(1, 2), ("esc10", "mixtures"), strict=True):
        some = [row for row in rows if row["task"] == task]
        for net in dict.fromkeys(row["net"] for row in some):
            own = [row for row in some if row["net"] == net]
            x, y = own[0]["ms_per_window"], float(np.mean([row["pr_auc"] for row in own]))
            panel.scatter(max(x, 0.01), y, s=18)
            panel.annotate(
                net, (max(x, 0.01), y), fontsize=6, xytext=(3, 2), textcoords="offset points"
            )
        if some:
            panel.axhline(some[0]["prior"], color="grey", lw=0.8, ls=":")
            panel.annotate("chance", (0.011, some[0]["prior"]), fontsize=6, color="grey")
        panel.set_xscale("log")
        panel.set_xlabel("ms of one core per window")
        panel.set_ylabel("PR-AUC, macro")
        panel.set_title({"esc10": "ESC-10", "mixtures": "instruments in mixtures"}[task])
        panel.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
