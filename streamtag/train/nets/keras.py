"""Initial weights and constants of layers as in Keras 2, for nets whose authors used it.

PyTorch's own differ: uniform weights in ±1/√fan-in, random biases, and a batch normalisation with
epsilon 1e-5 whose statistics follow ten times faster.
"""

from torch import nn

EPSILON = 1e-3
"""Added to the variance by Keras' BatchNormalization."""
MOMENTUM = 1 - 0.99
"""Weight of a batch in the running statistics; Keras states its complement."""


def as_keras(module: nn.Module) -> None:
    """Initialises one layer; for `Module.apply`.

    Weights are Glorot-uniform (Glorot and Bengio 2010, equation 16), recurrent ones orthogonal,
    biases 0 but 1 for the forget gates of an LSTM.
    """
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        module.eps, module.momentum = EPSILON, MOMENTUM
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.LSTM | nn.GRU):
        for name, weights in module.named_parameters():
            if name.startswith("weight_ih"):
                nn.init.xavier_uniform_(weights)
            elif name.startswith("weight_hh"):
                nn.init.orthogonal_(weights)
            else:
                nn.init.zeros_(weights)
            if isinstance(module, nn.LSTM) and name.startswith("bias_ih"):
                # Gates: input, forget, cell, output.
                nn.init.ones_(weights[module.hidden_size : 2 * module.hidden_size])
