"""The files that are shipped with streamtag: the default model and the demo piece.

A wheel has them inside the package (`streamtag/models`, `streamtag/demo`). A checkout has them
beside the package (`models/`, `demo/`).
"""

from pathlib import Path

from streamtag.errors import BundleError, SourceError

DEFAULT_MODEL = "general-2.pt"
KNOWN_CHECKSUMS = frozenset(
    {
        "3a4d66c266104521017d2f7ea6412a85a9f75484af76df560418bd6d9bcff219",  # general-1
        "1f141709927c65a544a75ec2986ffd0ca28a173cf7c3ecf97678016c1b669a62",  # general-2
        "ce5c34892d6147e562a665879132383d79450e2027478f7fafb41358267604f9",  # general-2-small
        "8d81961e796a27206cd37ac9dd6db84410caaf2cbb70044a2d71503224a92479",  # general-2-free
        "80a5621dd96dab116eb37bead71c61a54093b52c087c389cd2cf7ec96f2bc216",  # instruments-1
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
