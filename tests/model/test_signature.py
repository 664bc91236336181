"""Signatures of bundles, against the program minisign where it is installed."""

import shutil
import subprocess
from pathlib import Path

import pytest
from support.toy import tagger

from streamtag.errors import BundleError
from streamtag.model.bundle import BundleFile
from streamtag.model.signature import (
    check_signature,
    is_encrypted,
    key_number,
    make_keys,
    read_signature,
    sign,
    signature_path,
)

pytest.importorskip("minisign", reason="needs py-minisign")


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    tagger(tmp_path)
    return tmp_path / "toy.pt"


def test_a_signature_by_a_trusted_key_is_accepted(toy: Path, tmp_path: Path) -> None:
    other, public = (make_keys(tmp_path / name) for name in ("other.key", "models.key"))
    assert sign(toy, tmp_path / "models.key", "moods of 2026") == signature_path(toy)
    assert check_signature(BundleFile.read(toy), [other, public]) == "moods of 2026"
    assert (tmp_path / "models.key").stat().st_mode & 0o777 == 0o600
    comment = (tmp_path / "models.pub").read_text().splitlines()[0]
    assert comment.endswith(key_number(read_signature(toy)))


def test_no_signature_another_key_and_another_file_are_refused(toy: Path, tmp_path: Path) -> None:
    other, public = (make_keys(tmp_path / name) for name in ("other.key", "models.key"))
    with pytest.raises(BundleError, match=r"expected a signature by one of 1 trusted keys in toy"):
        check_signature(BundleFile.read(toy), [public])
    sign(toy, tmp_path / "models.key", "mine")
    with pytest.raises(BundleError, match="expected a signature of this file by a trusted key"):
        check_signature(BundleFile.read(toy), [other])
    changed = BundleFile(toy, toy.read_bytes() + b"\0")
    with pytest.raises(BundleError, match="got one of another file"):
        check_signature(changed, [public])
    text = signature_path(toy).read_text().replace("mine", "yours")
    signature_path(toy).write_text(text)
    with pytest.raises(BundleError, match="do not use it"):
        check_signature(BundleFile.read(toy), [public])
    signature_path(toy).write_text("rubbish")
    with pytest.raises(BundleError, match=r"minisig: expected a signature of minisign, got"):
        check_signature(BundleFile.read(toy), [public])


def test_a_key_may_have_a_password(toy: Path, tmp_path: Path) -> None:
    public = make_keys(key := tmp_path / "models.key", "secret")
    assert is_encrypted(key)
    with pytest.raises(BundleError, match=r"models\.key: expected a secret key .* wrong password"):
        sign(toy, key, "", "guess")
    sign(toy, key, "with a password", "secret")
    assert check_signature(BundleFile.read(toy), [public]) == "with a password"


def test_keys_are_not_overwritten_and_only_bundles_are_signed(toy: Path, tmp_path: Path) -> None:
    make_keys(tmp_path / "models.key")
    with pytest.raises(BundleError, match=r"models\.key: expected a new file, got: File exists"):
        make_keys(tmp_path / "models.key")
    (tmp_path / "text.pt").write_text("no bundle")
    with pytest.raises(BundleError, match="not a bundle"):
        sign(tmp_path / "text.pt", tmp_path / "models.key", "")
    with pytest.raises(BundleError, match="none: No such file"):
        sign(toy, tmp_path / "none", "")


@pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")
def test_minisign_reads_what_we_write_and_writes_what_we_read(toy: Path, tmp_path: Path) -> None:
    public = make_keys(key := tmp_path / "models.key")
    sign(toy, key, "by streamtag")
    verify = ["minisign", "-V", "-m", str(toy), "-P", public]
    said = subprocess.run(verify, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "by streamtag" in said
    signature_path(toy).unlink()
    make = ["minisign", "-S", "-s", str(key), "-m", str(toy), "-t", "by minisign"]
    subprocess.run(make, check=True, capture_output=True, timeout=60, input=b"\n")
    assert check_signature(BundleFile.read(toy), [public]) == "by minisign"
