import hashlib
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.paths import ROOT
from support.toy import FEATURES, card, tagger

from streamtag.audio.feature_config import FeatureConfig, FrameKind, Framing
from streamtag.errors import BundleError
from streamtag.model.bundle import (
    checksum,
    golden_signal,
    golden_window,
    read_card,
    silence_frame,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    tagger(folder)
    return folder / "toy.pt"


def rewritten(bundle: Path, path: Path, change: dict[str, object] | None) -> Path:
    """A copy of a bundle with another card, or with none."""
    with zipfile.ZipFile(bundle) as old, zipfile.ZipFile(path, "w") as new:
        for item in old.infolist():
            text = old.read(item)
            if item.filename.endswith("extra/card.json"):
                if change is None:
                    continue
                text = json.dumps(json.loads(text) | change).encode()
            new.writestr(item, text)
    return path


def test_the_card_comes_back_without_torch(bundle: Path) -> None:
    read = read_card(bundle)
    assert read.tags == card().tags
    assert read.features == FEATURES
    assert read.golden is not None


@pytest.mark.parametrize("name", ["general-1.pt", "instruments-1.pt"])
def test_a_shipped_card_is_written_byte_for_byte_as_it_was_read(name: str) -> None:
    path = ROOT / "models" / name
    with zipfile.ZipFile(path) as archive:
        (member,) = (n for n in archive.namelist() if n.endswith("extra/card.json"))
        text = archive.read(member).decode()
    written = json.loads(text)  # older than some keys, such as `categories` and `preemphasis`
    table = {key: value for key, value in read_card(path).to_dict().items() if key in written}
    for part in ("features", "golden"):
        table[part] = {k: v for k, v in table[part].items() if k in written[part]}
    assert json.dumps(table, indent=1, ensure_ascii=False) == text


def test_no_path_of_this_machine_is_in_it(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        text = b"".join(map(archive.read, archive.namelist()))
    assert b"def forward" in text
    assert str(ROOT).encode() not in text
    assert b"site-packages" not in text


def test_the_checksum_is_sha256(bundle: Path) -> None:
    assert checksum(bundle) == hashlib.sha256(bundle.read_bytes()).hexdigest()


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.pt: expected a bundle, got No such file"):
        read_card(tmp_path / "none.pt")
    with pytest.raises(BundleError, match="expected a bundle, got Is a directory"):
        read_card(tmp_path)


@pytest.mark.parametrize("content", [b"", b"P", b"RIFF....WAVE", b"\x80\x02}q\x00."])
def test_another_file_is_reported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"other\.pt: not a bundle: expected a TorchScript file"):
        read_card(path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_reported(bundle: Path, tmp_path: Path, keep: float) -> None:
    path = tmp_path / "half.pt"
    content = bundle.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(BundleError, match=r"half\.pt: truncated: its end is missing"):
        read_card(path)


def test_a_flipped_bit_is_reported(bundle: Path, tmp_path: Path) -> None:
    content = bytearray(bundle.read_bytes())
    weights = max(zipfile.ZipFile(bundle).infolist(), key=lambda i: i.file_size)
    content[weights.header_offset + 200] ^= 1
    path = tmp_path / "flipped.pt"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        read_card(path)


def test_a_zip_without_a_card_is_reported(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"expected a card \(card\.json\) inside, found none"):
        read_card(rewritten(bundle, tmp_path / "bare.pt", None))


def test_another_feature_version_is_reported(bundle: Path, tmp_path: Path) -> None:
    path = rewritten(bundle, tmp_path / "future.pt", {"features_version": 99})
    with pytest.raises(BundleError, match="made for version 99 of the front end, but this is ver"):
        read_card(path)


def test_a_card_that_contradicts_itself_is_reported(bundle: Path, tmp_path: Path) -> None:
    path = rewritten(bundle, tmp_path / "odd.pt", {"tags": ["one"]})
    with pytest.raises(BundleError, match=r"odd\.pt: card 'toy': on_thresholds: expected 1"):
        read_card(path)


def golden_sample(i: int, rate: int) -> float:
    """One sample of the signal, in plain Python."""
    t, top = i / rate, 0.4 * rate
    up, down = (t % 3) / 3, 1 - (t % 1.7) / 1.7
    x = i
    x = ((x ^ (x >> 16)) * 0x7FEB352D) % 2**32
    x = ((x ^ (x >> 15)) * 0x846CA68B) % 2**32
    noise = (x ^ (x >> 16)) / 2**31 - 1
    return (
        0.3 * math.sin(2 * math.pi * (1.5 * (top - 50) * up**2 + 150 * up))
        + 0.2 * math.sin(2 * math.pi * 0.425 * top * down**2)
        + 0.15 * (t % 2.3 / 2.3) ** 2 * noise
        + (0.3 if i % (rate // 2) < 8 else 0)
    )


PINNED = (0.115688026, 0.33635664, 0.30634612)


def test_the_golden_signal_is_the_same_for_ever() -> None:
    """Changing it makes every bundle refuse to load: raise FEATURES_VERSION then."""
    signal = golden_signal(16000, 10)
    assert signal.dtype == np.float32
    assert signal.shape == (160000,)
    assert np.abs(signal).max() <= 1
    for i in (0, 1, 8, 7999, 8000, 40000, 123456):
        assert signal[i] == pytest.approx(golden_sample(i, 16000), abs=1e-6)
    assert signal[[1, 8000, 123456]] == pytest.approx(PINNED, abs=1e-6)
    assert np.array_equal(golden_signal(16000, 3), signal[:48000])


def test_the_golden_signal_covers_the_whole_band() -> None:
    spectrum = np.abs(np.fft.rfft(golden_signal(16000, 8).astype(np.float64)))
    bands = spectrum[:64000].reshape(16, -1).mean(axis=1)
    assert bands.min() > 0.01 * bands.max()


@pytest.mark.parametrize(
    "features",
    [
        FEATURES,
        FeatureConfig(framing=Framing.CENTERED),
        FeatureConfig(kind=FrameKind.RAW, sample_rate=8000),
    ],
)
def test_a_golden_window_is_full(features: FeatureConfig) -> None:
    window = golden_window(card(features=features))
    assert window.shape == (1, 50, features.width)
    assert np.isfinite(window).all()
    assert (window[0, 0] != window[0, -1]).any()


def test_the_silence_frame_is_the_frame_of_zeros() -> None:
    assert silence_frame(FEATURES) == pytest.approx(np.full(8, np.log(1e-10)), abs=1e-5)
    assert silence_frame(FeatureConfig(kind=FrameKind.RAW)) == [0.0]
