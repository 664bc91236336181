"""The files that are shipped with streamtag: the default model and the demo piece.

A wheel has them inside the package (`streamtag/models`, `streamtag/demo`). A checkout has them
beside the package (`models/`, `demo/`).
"""

from pathlib import Path

from streamtag.errors import BundleError, SourceError

DEFAULT_MODEL = "general-2.pt"
KNOWN_CHECKSUMS = frozenset(
    {
        "093a0947b12aaf0524e63e35e03facd2f94c0401ee79849ff7fe1721b2bfdc06",  # general-1
        "84c5c0f0ab0fe0be5f2cf5b8d5ad8c1471c8b1a19ea785e8fb172a4b904a8f42",  # general-2
        "3752fae9e312f11f8c12d68cbe41d35928d6081b68bd42987a4be3cf15f99ac3",  # general-2-small
        "a8108aa8bbba1bd960af789b858da062a079834eaffbdfbe94581f87ead2640d",  # general-2-free
        "f4d2109f9391dd98c6e9346813841e2c9b93136dc8143860a8e81a3cf2607b80",  # instruments-1
    }
)
"""SHA-256 of every bundle that comes with streamtag. These need neither trial nor signature."""
DEMO_PIECE = "piece.ogg"
DEMO_TIMELINE = "timeline.json"

_PACKAGE = Path(__file__).resolve().parents[1]


def _find(folder: str, name: str) -> Path | None:
    for root in (_PACKAGE, _PACKAGE.parent):
        if (path := root / folder / name).is_file():
            return path
    return None


def default_bundle() -> Path:
    """The model that is used when none is named.

    Raises:
        BundleError: this installation has none.
    """
    if path := _find("models", DEFAULT_MODEL):
        return path
    raise BundleError(
        f"models/{DEFAULT_MODEL}: expected with this installation, but it is not there; "
        "install streamtag again, or name a bundle"
    )


def demo_piece() -> Path:
    """The piece of music that `streamtag demo` plays.

    Raises:
        SourceError: this installation has none.
    """
    if path := _find("demo", DEMO_PIECE):
        return path
    raise SourceError(
        f"demo/{DEMO_PIECE}: expected with this installation, but it is not there; "
        "install streamtag again, or name a file"
    )


def demo_timeline() -> Path | None:
    """The JSON file of which instruments play when in the demo piece; None if it is missing."""
    return _find("demo", DEMO_TIMELINE)
