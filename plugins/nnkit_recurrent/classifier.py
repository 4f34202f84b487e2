"""A recurrent layer and a linear head over its states: class log-probabilities of sequences.

    y = log softmax(W_o h + b_o)

h is the state of the last layer, at every step or after the last one. "After the last one" means of each
direction: the backward half of the features is then the state after the first step, which has seen the
whole sequence, where the last row of the outputs holds one that has seen a single step.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from nnkit_recurrent.configs import RecurrentConfig
from nnkit_recurrent.layer import RecurrentLayer


class _Classifier(nn.Module):
    """Log-probabilities of x (B, T, I): (B, C), or (B, T, C) if `every_step`; and the final state.

    recurrent: a layer with `batch_first`. Its state goes in and comes out part by part, (L·D, B, H) each:
    h_0 and h_n, and for an LSTM c_0 and c_n; so that a sequence can come in pieces.
    """

    def __init__(self, recurrent: RecurrentLayer, num_classes: int, every_step: bool = False) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.head = nn.Linear(recurrent.directions * recurrent.hidden_size, num_classes)
        self.every_step = every_step

    def classify(
        self, x: Tensor, lengths: Tensor | None, h_0: Tensor | None, c_0: Tensor | None
    ) -> tuple[Tensor, ...]:
        given = tuple(part for part in (h_0, c_0) if part is not None)
        output, state = self.recurrent(x, given or None, lengths)
        final = (state,) if isinstance(state, Tensor) else state
        last = final[0][-self.recurrent.directions :]  # (D, B, H)
        features = output if self.every_step else last.transpose(0, 1).flatten(1)  # (B, D·H)
        return F.log_softmax(self.head(features), dim=-1), *final


class SequenceClassifier(_Classifier):
    __doc__ = _Classifier.__doc__

    def forward(self, x: Tensor, h_0: Tensor | None = None, c_0: Tensor | None = None) -> tuple[Tensor, ...]:
        return self.classify(x, None, h_0, c_0)


class PaddedSequenceClassifier(_Classifier):
    """A SequenceClassifier of padded sequences: `lengths` (B,) is the number of real steps in each.

    With `every_step` the steps beyond have the log-probabilities of a state of zeros.
    """

    def forward(
        self, x: Tensor, lengths: Tensor, h_0: Tensor | None = None, c_0: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        return self.classify(x, lengths, h_0, c_0)


def classifier(
    recurrent: RecurrentLayer, config: RecurrentConfig
) -> SequenceClassifier | PaddedSequenceClassifier:
    """Return the classifier over `recurrent` with the inputs and outputs that `config` asks for."""
    classifier_class = PaddedSequenceClassifier if config.lengths else SequenceClassifier
    return classifier_class(recurrent, config.num_classes, config.predict == "every")
