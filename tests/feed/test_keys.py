"""Key files: made once, read back, refused where they cannot be trusted."""

from pathlib import Path

import pytest
import zmq
from typer.testing import CliRunner
from zmq.auth import create_certificates

from streamtag.cli.main import app
from streamtag.errors import FeedError
from streamtag.feed.keys import generate, read_authorised, read_pair, read_public


def test_a_pair_comes_back_as_it_was_made(tmp_path: Path) -> None:
    secret, public = generate(tmp_path / "kitchen.radio")
    assert (secret.name, public.name) == ("kitchen.radio.key_secret", "kitchen.radio.key")
    assert [path.stat().st_mode & 0o777 for path in (secret, public)] == [0o600, 0o644]
    pair = read_pair(secret)
    assert read_public(public) == read_public(pair.public) == pair.public
    assert zmq.curve_public(pair.secret.encode()).decode() == pair.public
    assert pair.secret not in public.read_text()
    assert pair.secret not in repr(pair)


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    secret, public = generate(tmp_path / "a")
    before = secret.read_bytes(), public.read_bytes()
    with pytest.raises(FeedError, match=r"a.key_secret: expected no such file, got one"):
        generate(tmp_path / "a")
    secret.unlink()
    with pytest.raises(FeedError, match=r"a.key: expected no such file"):
        generate(tmp_path / "a")
    assert not secret.exists()
    assert public.read_bytes() == before[1]


def test_pyzmqs_own_files_are_read(tmp_path: Path) -> None:
    public, secret = map(Path, create_certificates(tmp_path, "other"))
    secret.chmod(0o600)
    assert read_pair(secret).public == read_public(public)


def test_what_cannot_be_trusted_is_refused(tmp_path: Path) -> None:
    secret, public = generate(tmp_path / "a")
    _, other = generate(tmp_path / "b")
    with pytest.raises(FeedError, match=r"expected a secret key, got a public one"):
        read_pair(public)
    secret.chmod(0o640)
    with pytest.raises(FeedError, match=r"got mode 0640; chmod 600"):
        read_pair(secret)
    mixed = tmp_path / "mixed.key_secret"
    mixed.write_text(secret.read_text().replace(read_public(public), read_public(other)))
    mixed.chmod(0o600)
    with pytest.raises(FeedError, match=r"two halves of one key"):
        read_pair(mixed)
    with pytest.raises(FeedError, match=r"none: expected a key file, got No such file"):
        read_public("none")
    for text in ("", "public-key", "public-key = 'short'", f"public-key = '{'#' * 40}'", "\0"):
        (spoilt := tmp_path / "spoilt.key").write_text(text)
        with pytest.raises(FeedError, match=r"spoilt.key: expected"):
            read_public(spoilt)


def test_a_folder_says_which_of_its_files_are_none(tmp_path: Path) -> None:
    secret, _ = generate(tmp_path / "a")
    generate(tmp_path / "b")
    (tmp_path / "c.key").write_bytes(secret.read_bytes())
    (tmp_path / "d.key").write_text("nothing")
    (tmp_path / "e.key").write_bytes((tmp_path / "b.key").read_bytes())
    (tmp_path / "f.key").mkdir()
    (tmp_path / "notes.txt").write_text("not looked at")
    names, complaints = read_authorised(tmp_path)
    assert sorted(names.values()) == ["a", "b"]
    assert [line.split(":")[0].rpartition("/")[2] for line in complaints] == [
        "c.key",
        "d.key",
        "e.key",
        "f.key",
    ]
    with pytest.raises(FeedError, match=r"expected a folder of public keys"):
        read_authorised(tmp_path / "none")


def test_the_command(tmp_path: Path) -> None:
    run = CliRunner().invoke
    done = run(app, ["keygen", str(tmp_path / "a")])
    assert done.exit_code == 0
    assert read_public(tmp_path / "a.key") in done.output
    again = run(app, ["keygen", str(tmp_path / "a")])
    assert isinstance(again.exception, FeedError)
    assert "not overwritten" in str(again.exception)
