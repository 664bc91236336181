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
        "6758f4e18afa2643cfdeb0eda3c7545a1415536d4424042dead671de5dc782db",  # general-2
        "bf06df3d5b8a34abfa014c5e2816bc6ed11407253f09946389f2fe1c2e3f46c0",  # general-2-small
        "94d3a2eae9e8e7f520f341cb2f6b58bec324cc0cd5b07a3aca0a2fb76567cfc1",  # general-2-free
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
