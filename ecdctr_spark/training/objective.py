"""What a training minimises.

Clicks are the targets: a sample weighs what sampling and its domain say (Batch.weights). A teacher's probabilities may
be targets beside them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecdctr_spark.models.batch import Batch


class Teaching(NamedTuple):
    """A trained model whose probabilities are targets, and their share of the loss (methods/method.py, Teacher)."""

    model: nn.Module
    share: float


class Objective(NamedTuple):
    """The loss of a batch: cross-entropy with the clicks and, where there is a teacher, with its probabilities."""

    teaching: Teaching | None = None

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The weighted sum over the batch, from logits [B] float32. All ranks call it together: a teacher looks rows up
        as any model does."""
        targets = batch.labels
        if self.teaching is not None:
            with torch.no_grad():
                taught = torch.sigmoid(self.teaching.model(batch).float())
            # Cross-entropy is linear in its targets, so that the mixed loss is the loss with mixed targets.
            targets = torch.lerp(targets, taught, self.teaching.share)
        return F.binary_cross_entropy_with_logits(logits, targets, batch.weights, reduction="sum")


CLICKS = Objective()
