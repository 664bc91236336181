"""The nets, by the name that recipes and cards call them: one file per paper.

`model` says what is asked of each.
"""

from collections.abc import Callable

from torch import nn

from streamtag.train.nets.innsbruck import InnsbruckCrnn
from streamtag.train.nets.jamendo import Popularity, Vggish
from streamtag.train.nets.small import Small
from streamtag.train.nets.sota import Crnn, Fcn, Musicnn
from streamtag.train.nets.vqvae import Vqvae
from streamtag.train.nets.vqvae_classifiers import VqvaeCnn, VqvaeGru

NETS: dict[str, Callable[..., nn.Module]] = {
    "popularity": Popularity,
    "vggish": Vggish,
    "fcn": Fcn,
    "musicnn": Musicnn,
    "crnn": Crnn,
    "small": Small,
    "innsbruck-crnn": InnsbruckCrnn,
    "vqvae": Vqvae,
    "vqvae-gru": VqvaeGru,
    "vqvae-cnn": VqvaeCnn,
}
"""From the number of tags to the net; `width`, `window_frames` and options have names."""
