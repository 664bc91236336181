"""What is known of recordings without a teacher: renderings of rated pieces, words of tables."""

import math
import shutil
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from support.paths import SHARED

from streamtag.errors import RecipeError
from streamtag.train.data.corpora.corpus import Item
from streamtag.train.data.known import NO_VOICE, KnownItem, known_targets
from streamtag.train.data.vocabulary import read_vocabulary
from streamtag.train.distillation.splits import Recording
from streamtag.train.distillation.truth import GENRES, VOICES, known_recordings, recording_truth
from streamtag.train.synthesis import rated
from streamtag.train.synthesis.midi import Note, sustained, write_midi
from streamtag.train.synthesis.pieces import NAMED, instrument_truth
from streamtag.train.synthesis.stems import soundfont

TAGS = {tag.tag for tag in read_vocabulary("general-2")}


def fluidsynth() -> bool:
    try:
        soundfont("TimGM6mb")
    except RecipeError:
        return False
    return shutil.which("fluidsynth") is not None


def test_all_that_is_known_has_a_tag() -> None:
    named = {*NAMED, *VOICES, *GENRES, *NO_VOICE}
    named |= {mood for moods in rated.QUADRANTS.values() for mood in moods}
    assert named <= TAGS


def test_what_is_left_out_is_unknown() -> None:
    known = KnownItem(Item("a", Path("a"), (), "train"), {"music": 1.0, "rap": 0.0})
    np.testing.assert_array_equal(known_targets(known, ["rap", "pop", "music"]), [0, np.nan, 1])


def test_the_pedal_holds_notes_until_it_is_released_or_they_are_struck_again(
    tmp_path: Path,
) -> None:
    track = mido.MidiTrack()
    pedal = [("control_change", {"control": 64, "value": value}) for value in (127, 0)]
    on = ("note_on", {"note": 60, "velocity": 80})
    off = ("note_off", {"note": 60})
    # one beat of half a second each: down, struck, let go, struck, let go, …, pedal up, struck
    for kind, more in (pedal[0], on, off, on, off, pedal[1], on, off):
        track.append(mido.Message(kind, time=480, **more))
    mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(tmp_path / "a.mid")
    found = [(n.start, n.end) for n in sustained(tmp_path / "a.mid")]
    assert found == [(1.0, 2.0), (2.0, 3.0), (3.5, 4.0)]


def test_the_truth_of_programs() -> None:
    found = instrument_truth([(40, False), (0, False), (6, False)])
    assert (found["violin"], found["strings"], found["piano"], found["cello"]) == (1, 1, 1, 0)
    assert math.isnan(found["guitar"])  # a harpsichord may be taken for one
    assert instrument_truth([(40, True)])["violin"] == 0
    assert instrument_truth([(40, True)])["drums"] == 1


def songs(vocals: str, voice: str, *words: str) -> Recording:
    return Recording(Path("a.ogg"), "src", (), "CC0", 60.0, vocals, voice, words)


def test_the_truth_of_tables() -> None:
    assert recording_truth(songs("no", "", "jazz")) == (
        {"music": 1, "jazz": 1} | dict.fromkeys(VOICES, 0)
    )
    woman = recording_truth(songs("yes", "female", "rap"))
    assert (woman["singing"], woman["female voice"], woman["male voice"]) == (1, 1, 0)
    assert (woman["rap"], woman["hip-hop"]) == (1, 1)
    assert recording_truth(songs("unknown", "")) == {"music": 1}


def clips(folder: Path, count: int = 2) -> None:
    (folder / rated.LABELS).mkdir(parents=True)
    lines = ["file\tquadrant\tvalence\tarousal\tsong"]
    for i in range(count):
        notes = [Note(0.2 * k, 0.2 * k + 0.2, 60 + i + k, 90) for k in range(5)]
        write_midi(folder / rated.LABELS / f"Q3_{i}.mid", [(0, False, notes)])
        lines.append(f"Q3_{i}.mid\tQ3\t-1\t-1\tsong {i}")
    (folder / rated.LABELS / "labels.tsv").write_text("\n".join(lines))


def test_clips_of_one_song_are_in_one_split() -> None:
    made = [rated.RatedClip(Path(), "Q1", 1, 1, f"song {i // 2}") for i in range(400)]
    splits = [clip.split for clip in made]
    assert splits[::2] == splits[1::2]
    assert 0.1 < splits.count("test") / len(splits) < 0.2
    assert 0.6 < splits.count("train") / len(splits) < 0.9


def first_hertz(path: Path) -> float:
    """The strongest frequency of the first note, which lasts 0.2 s."""
    samples, rate = soundfile.read(path)
    note = samples[: rate // 5] * np.hanning(rate // 5)
    return float(np.abs(np.fft.rfft(note, 8 * rate)).argmax()) / 8


@pytest.mark.skipif(not fluidsynth(), reason="no fluidsynth with TimGM6mb")
def test_rated_clips_are_rendered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rated, "PIANOS", (("TimGM6mb", 0),) * 6)
    clips(tmp_path)
    found = rated.rated_items(tmp_path, tmp_path / "renders", 3, lambda *_: None)
    assert len(found) == 6
    piano, *others = found[:3]
    assert (piano.valence, piano.arousal, piano.item.group) == (-1, -1, "song 0")
    assert (piano.tags["sad"], piano.tags["happy"], piano.tags["piano"]) == (1, 0, 1)
    keys = [0, *(int(k.item.name.rpartition("-0")[2].replace("up", "")) for k in others)]
    assert len(set(keys)) == 3
    hertz = np.array([first_hertz(known.item.path) for known in found[:3]])
    moved = 12 * np.log2(hertz / hertz[0]) - keys
    np.testing.assert_allclose((moved + 6) % 12 - 6, 0, atol=0.5)  # but for octaves
    times = {known.item.path: known.item.path.stat().st_mtime_ns for known in found}
    for path in times:
        samples, rate = soundfile.read(path)
        assert rate == 32000
        assert 3 * rate < len(samples) <= round((1.0 + rated.TAIL) * rate)
        assert np.abs(samples[: rate // 2]).max() > 0.01
        assert np.abs(samples[-rate // 10 :]).max() < 0.01
    rated.rated_items(tmp_path, tmp_path / "renders", 3, lambda *_: None)
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_rated_clips_without_a_table(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"expected labels\.tsv with file, quadrant"):
        rated.rated_clips(tmp_path)


@pytest.mark.skipif(not (SHARED / "data" / "songs").is_dir(), reason="no ../shared/data/songs")
def test_the_truth_of_the_songs() -> None:
    known = known_recordings(SHARED / "data")
    sung = [k for k in known if k.tags.get("singing") == 1]
    assert len(sung) == 44
    assert sum(k.tags.get("singing") == 0 for k in known) == 26
    assert len({k.item.name for k in known}) == len(known)
    assert {k.tags.get("female voice") for k in sung} == {0, 1, None}
