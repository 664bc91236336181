"""Self-attention over a sequence of a few vectors: two layers of BERT without its vocabulary.

Devlin et al., "BERT", 2018; sizes of Sukhavasi and Adapa 2019 (see `mobilenet`), who have it from
Won et al., "Toward interpretable music tagging with self-attention", 2019. There is no position of
its own for the summary: the first one stands for all.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 256
HEADS = 4
WIDE = 1024
"""Width between the two layers behind the attention."""
EPS = 1e-12
"""Of the layer normalisations."""


def logit_of_mean(logits: Tensor) -> Tensor:
    """(n, k, n_tags) to (n, n_tags): the logit of the mean of k scores, exact at 0 and 1.

    log(p / (1 - p)) with p the mean of σ(x), whose 1/k cancels.
    """
    yes = torch.logsumexp(functional.logsigmoid(logits), dim=1)
    no = torch.logsumexp(functional.logsigmoid(-logits), dim=1)
    return yes - no


def sinusoids(n_positions: int, width: int) -> Tensor:
    """(n_positions, width): sines and cosines by turns (Vaswani et al. 2017, 3.5), row 0 all zeros.

    Row 0 was meant for padding; the authors' first slice stands there nevertheless.
    """
    wavelengths = 10000.0 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.arange(n_positions, dtype=torch.float64).unsqueeze(1) / wavelengths
    table = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)
    table[0] = 0
    return table.float()


class BertLayer(nn.Module):
    """Attention and a wide layer, each added to its input and normalised after that."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.n_heads = HEADS
        self.dropout_weights = nn.Dropout(0.1)
        self.output = nn.Linear(WIDTH, WIDTH)
        self.norm_1 = nn.LayerNorm(WIDTH, eps=EPS)
        self.widen = nn.Linear(WIDTH, WIDE)
        self.gelu = nn.GELU()
        self.narrow = nn.Linear(WIDE, WIDTH)
        self.norm_2 = nn.LayerNorm(WIDTH, eps=EPS)
        self.dropout = nn.Dropout(0.2)

    def heads(self, x: Tensor) -> Tensor:
        """(n, k, 256) to (n, heads, k, 64)."""
        return x.reshape(x.shape[0], x.shape[1], self.n_heads, -1).transpose(1, 2)

    def attended(self, x: Tensor) -> Tensor:
        """(n, k, 256) to (n, k, 256): what each position takes from all."""
        query, key = self.heads(self.query(x)), self.heads(self.key(x))
        likeness = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        weights = self.dropout_weights(torch.softmax(likeness, dim=3))
        taken: Tensor = weights @ self.heads(self.value(x))
        return taken.transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, k, 256) to (n, k, 256)."""
        x = self.norm_1(x + self.dropout(self.output(self.attended(x))))
        out: Tensor = self.norm_2(x + self.dropout(self.narrow(self.gelu(self.widen(x)))))
        return out


class AttentionHead(nn.Module):
    """(n, n_positions, 256) to (n, n_tags) logits; 1,659,704 weights at 56 tags.

    Args:
        n_tags: outputs.
        n_positions: length of the sequence.
    """

    def __init__(self, n_tags: int, n_positions: int) -> None:
        super().__init__()
        self.positions: Tensor
        self.register_buffer("positions", sinusoids(n_positions, WIDTH))
        self.layers = nn.Sequential(BertLayer(), BertLayer())
        self.pool = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.2)
        self.dense = nn.Linear(WIDTH, n_tags)

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_positions, 256) to (n, n_tags) logits."""
        x = self.layers(x + self.positions)
        pooled = torch.tanh(self.pool(x[:, 0]))
        out: Tensor = self.dense(self.dropout(pooled))
        return out
