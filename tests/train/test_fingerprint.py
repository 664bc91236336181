"""The fingerprint of data tells what differs, and nothing else."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support.toy_training import ToySamples

from streamtag.train.data.fingerprint import (
    PIECE,
    WHOLE_FILE,
    Fingerprint,
    differences,
    file_checksum,
    fingerprint,
    from_json,
)
from streamtag.train.data.samples import Sets

ROWS = {f"{tag}/{i}.wav": f"audio{tag}{i} {tag} windows -" for tag in "ab" for i in range(3)}
RUN = Fingerprint(("a", "b"), {"train": ROWS, "validation": {"v": "1 2 3 -"}, "test": {}}, "note")


def with_rows(part: str, rows: dict[str, str]) -> Fingerprint:
    return dataclasses.replace(RUN, parts=dict(RUN.parts) | {part: rows})


def found(now: Fingerprint) -> tuple[str, ...]:
    return differences(RUN, now).training


def test_the_same_data_do_not_differ() -> None:
    again = from_json(json.dumps(RUN.to_dict()))
    assert again == RUN
    assert differences(RUN, RUN).training == differences(RUN, RUN).test == ()


def test_a_file_of_another_version_is_no_fingerprint() -> None:
    table = RUN.to_dict()
    for text in ("", "[]", "{}", json.dumps(table | {"version": 0})):
        assert from_json(text) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tags": ("a", "c")}, "2 tags in the run, 2 now, without 'b' and with 'c'"),
        ({"tags": ("b", "a")}, "the tags are in another order"),
        ({"pretrained": "2"}, "the weights that the net begins with differ"),
    ],
)
def test_tags_and_weights(change: dict[str, object], said: str) -> None:
    run = dataclasses.replace(RUN, pretrained="1")
    now = dataclasses.replace(run, **change)  # type: ignore[arg-type]
    assert differences(run, now).training == (said,)


def test_labels_and_audio_and_windows_are_told_apart() -> None:
    for i, aspect in enumerate(("audio", "labels", "windows", "side values")):
        rows = dict(ROWS)
        for name in ("a/1.wav", "b/0.wav"):
            cells = rows[name].split()
            rows[name] = " ".join([*cells[:i], "other", *cells[i + 1 :]])
        said = f"{aspect} of 2 of 6 train recordings differ, first: 'a/1.wav'"
        assert found(with_rows("train", rows)) == (said,)


def test_recordings_that_came_and_went() -> None:
    rows = {name: row for name, row in ROWS.items() if name != "a/0.wav"} | {"n": "new l w -"}
    assert found(with_rows("train", rows)) == (
        "1 of 6 train recordings are gone, first: 'a/0.wav'",
        "1 of 6 train recordings are new, first: 'n'",
    )


def test_a_recording_in_the_folder_of_another_tag_has_other_labels() -> None:
    moved = {"a/0.wav": "b/00.wav"}
    rows = {moved.get(k, k): v.replace(" a ", " b ") if k in moved else v for k, v in ROWS.items()}
    said = "labels of 1 of 6 train recordings differ, first: 'a/0.wav'"
    assert found(with_rows("train", rows)) == (said,)


def test_the_order_matters_in_training_alone() -> None:
    assert found(with_rows("train", dict(reversed(ROWS.items())))) == (
        "the train recordings are in another order",
    )
    both = dataclasses.replace(RUN, parts={"validation": ROWS})
    other = dataclasses.replace(RUN, parts={"validation": dict(reversed(ROWS.items()))})
    assert differences(both, other).training == ()


def test_other_test_recordings_change_scores_but_not_weights() -> None:
    now = with_rows("test", {"x": "a l w -"})
    assert found(now) == ()
    assert differences(RUN, now).test == ("1 of 1 test recordings are new, first: 'x'",)


def test_windows_without_recordings_are_known_by_targets_and_frames() -> None:
    one, same, other = (ToySamples(20, seed) for seed in (1, 1, 2))
    prints = [fingerprint(Sets(s.tags, s, None)) for s in (one, same, other)]
    assert prints[0] == prints[1]
    assert differences(prints[0], prints[2]).training == (
        "labels of the train recordings differ",
        "audio of the train recordings differ",
    )


@pytest.mark.parametrize("size", [0, 10, WHOLE_FILE, WHOLE_FILE + 1])
def test_a_byte_more_or_another_one_at_either_end_is_seen(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    (tmp_path / "a").write_bytes(content)
    (tmp_path / "b").write_bytes(content)
    assert file_checksum(tmp_path / "a") == file_checksum(tmp_path / "b")
    for other in (content + b"x", b"x" + content[1:], content[:-1] + b"x"):
        if other != content and (size or len(other)):
            (tmp_path / "b").write_bytes(other)
            assert file_checksum(tmp_path / "a") != file_checksum(tmp_path / "b")
    assert PIECE < WHOLE_FILE
    assert file_checksum(tmp_path / "c") == "missing"
