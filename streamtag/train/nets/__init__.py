"""The nets by the names that recipes and cards use: one file per paper.

`model` describes the contract of a net.
"""

from collections.abc import Callable

from torch import nn

from streamtag.train.nets.cpjku import ChoiCrnn, CpResnet, FaResnet, Resnet34, ShakeFaResnet
from streamtag.train.nets.efficientat import EfficientAt, StreamedEfficientAt
from streamtag.train.nets.fcn_musicnn_crnn import Crnn, Fcn, Musicnn
from streamtag.train.nets.innsbruck import InnsbruckCrnn
from streamtag.train.nets.jamendo import Popularity, Vggish
from streamtag.train.nets.mobilenet import Mobilenet, MobilenetAttention
from streamtag.train.nets.polimi import BiLstm, Cnn2d, SampleCnn
from streamtag.train.nets.pons import PonsMusicnn
from streamtag.train.nets.small import Small
from streamtag.train.nets.streaming import Streaming
from streamtag.train.nets.vqvae import Vqvae
from streamtag.train.nets.vqvae_classifiers import VqvaeCnn, VqvaeGru

NETS: dict[str, Callable[..., nn.Module]] = {
    "popularity": Popularity,
    "vggish": Vggish,
    "fcn": Fcn,
    "musicnn": Musicnn,
    "crnn": Crnn,
    "small": Small,
    "streaming": Streaming,
    "innsbruck-crnn": InnsbruckCrnn,
    "vqvae": Vqvae,
    "vqvae-gru": VqvaeGru,
    "vqvae-cnn": VqvaeCnn,
    "mobilenet": Mobilenet,
    "mobilenet-attention": MobilenetAttention,
    "samplecnn": SampleCnn,
    "cnn2d": Cnn2d,
    "bilstm": BiLstm,
    "cp-resnet": CpResnet,
    "fa-resnet": FaResnet,
    "shake-fa-resnet": ShakeFaResnet,
    "resnet34": Resnet34,
    "choi-crnn": ChoiCrnn,
    "efficientat": EfficientAt,
    "efficientat-stream": StreamedEfficientAt,
    "pons-musicnn": PonsMusicnn,
}
"""Constructors by name: from the number of tags, and `width`, `window_frames` and options by
keyword, to the net."""
