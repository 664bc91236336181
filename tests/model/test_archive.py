"""What is known of a bundle before any of its code runs."""

import json
import zipfile
from pathlib import Path

import pytest
from support.hostile import SavingBands, rewritten_code, saved
from support.toy import tagger

from streamtag.errors import BundleError
from streamtag.model import bundle
from streamtag.model.bundle import BundleFile, read_card
from streamtag.model.shipped import KNOWN_CHECKSUMS, default_bundle
from streamtag.model.tagger import Tagger


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    tagger(folder)
    return folder / "toy.pt"


def with_members(original: Path, path: Path, **content: bytes) -> Path:
    """The bundle with further members, by name."""
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(path, "w") as out:
        for item in source.infolist():
            out.writestr(item, source.read(item))
        root = source.namelist()[0].split("/")[0]
        for name, text in content.items():
            out.writestr(f"{root}/{name}", text, zipfile.ZIP_DEFLATED)
    return path


def with_card(original: Path, path: Path, **changes: object) -> Path:
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(path, "w") as out:
        for item in source.infolist():
            text = source.read(item)
            if item.filename.endswith("extra/card.json"):
                text = json.dumps(json.loads(text) | changes).encode()
            out.writestr(item, text)
    return path


def test_code_that_computes_is_fine(toy: Path) -> None:
    BundleFile.read(toy).check_code()
    BundleFile.read(default_bundle()).check_code()


def test_a_bundle_that_saves_is_refused_by_the_operators_name(toy: Path, tmp_path: Path) -> None:
    target = tmp_path / "written"
    path = saved(tmp_path / "evil.pt", SavingBands(str(target)), read_card(toy))
    with pytest.raises(BundleError, match=r"evil\.pt: expected code that only computes, got save,"):
        BundleFile.read(path).check_code()
    with pytest.raises(BundleError, match="got save"):
        Tagger.load(path, "cpu")
    assert not target.exists()


@pytest.mark.parametrize(
    "call",
    [
        b'torch.save(x, "/tmp/x")',
        b'ops.aten.save(x, "/tmp/x")',
        b'(x).save  ("/tmp/x")',
        b'getattr(torch, "sa" "\\x76e")(x, "/tmp/x")',
        b'torch.from_file("/etc/passwd", False, 10)',
        b"ops.c10d.barrier(x)",
        b"ops._c10d_functional.wait_tensor(x)",
    ],
)
def test_names_are_found_however_they_are_written(toy: Path, tmp_path: Path, call: bytes) -> None:
    path = rewritten_code(toy, tmp_path / "other.pt", b"    _0 = ", b"    " + call + b"\n    _0 = ")
    with pytest.raises(BundleError, match="expected code that only computes"):
        BundleFile.read(path).check_code()


def test_pickles_that_hold_more_than_tensors_are_refused(toy: Path, tmp_path: Path) -> None:
    path = tmp_path / "pickle.pt"
    with zipfile.ZipFile(toy) as source, zipfile.ZipFile(path, "w") as out:
        for item in source.infolist():
            evil = item.filename.endswith("constants.pkl")
            text = b"cposix\nsystem\n(S'true'\ntR." if evil else source.read(item)
            out.writestr(item.filename, text)
    with pytest.raises(BundleError, match="posix system"):
        BundleFile.read(path).check_code()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(toy: Path, tmp_path: Path) -> None:
    path = with_members(toy, tmp_path / "bomb.pt", zeros=bytes(80 * 2**20))
    assert path.stat().st_size < 2**20
    with pytest.raises(BundleError, match="expected members that fit a file of"):
        read_card(path)


def test_two_members_of_one_name_are_refused(toy: Path, tmp_path: Path) -> None:
    path = with_members(toy, tmp_path / "twice.pt", **{"DATA.pkl": b"x"})
    with pytest.raises(BundleError, match="members of different names"):
        read_card(path)


def test_a_card_of_a_million_tags_is_refused_at_once(toy: Path, tmp_path: Path) -> None:
    tags = [str(i) for i in range(1_000_000)]
    path = with_card(toy, tmp_path / "many.pt", tags=tags, on_thresholds=[0.5] * len(tags))
    with pytest.raises(BundleError, match=r"tags: expected .* at most 10000 items"):
        read_card(path)


def test_a_card_that_wants_all_memory_is_refused(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "_memory", lambda: 16 * 2**30)
    path = with_card(toy, tmp_path / "wide.pt", hop_frames=400_000, features=wide_features(toy))
    with pytest.raises(BundleError, match=r"expected a model that needs at most \d+ MiB for each"):
        BundleFile.read(path).check_code()


def wide_features(original: Path) -> dict[str, object]:
    return read_card(original).features.to_dict() | {"n_mels": 4096, "n_fft": 16384}


def test_the_checksum_of_every_bundle_that_is_shipped_is_known() -> None:
    """A new model in models/ needs its checksum in streamtag/model/shipped.py."""
    for path in default_bundle().parent.glob("*.pt"):
        assert BundleFile.read(path).checksum in KNOWN_CHECKSUMS, path


def test_texts_without_an_end_are_read_once(toy: Path, tmp_path: Path) -> None:
    """Not again from each of their million quotes."""
    endless = b'\n# "' + b'\\"' * 1_000_000 + b'\n    "sa" "ve'
    path = rewritten_code(toy, tmp_path / "endless.pt", b"    _0 = ", endless + b'"\n    _0 = ')
    assert BundleFile.read(path).archive.forbidden() == ["save"]
