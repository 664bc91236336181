"""The nets, by the name that recipes and cards call them.

Each maps (n, window_frames, width) frames to (n, n_tags) probabilities, with its normalisation
and its sigmoid inside.
"""

from collections.abc import Callable

from torch import nn

from streamtag.train.nets.jamendo import Vggish
from streamtag.train.nets.small import Small
from streamtag.train.nets.sota import Crnn, Fcn, Musicnn

NETS: dict[str, Callable[[int], nn.Module]] = {
    "vggish": Vggish,
    "fcn": Fcn,
    "musicnn": Musicnn,
    "crnn": Crnn,
    "small": Small,
}
"""From the number of tags to the net."""
