"""The loss that a training minimises.

Clicks are the targets, weighted by sampling and domain (Batch.weights). A teacher's probabilities may be targets too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecdctr_spark.models.batch import Batch


class Teaching(NamedTuple):
    """A trained model whose probabilities are targets, and its share of the loss (methods/method.py, Teacher)."""

    model: nn.Module
    share: float


class Objective(NamedTuple):
    """The loss of a batch: cross-entropy with the clicks and, where there is a teacher, with its probabilities."""

    teaching: Teaching | None = None

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The weighted sum of the losses of a batch, a scalar, from logits [B] float32. All ranks call it together,
        since a teacher looks rows up."""
        targets = batch.labels
        if self.teaching is not None:
            with torch.no_grad():
                taught = torch.sigmoid(self.teaching.model(batch).float())
            # Cross-entropy is linear in its targets: the mixed loss is the loss of the mixed targets.
            targets = torch.lerp(targets, taught, self.teaching.share)
        return F.binary_cross_entropy_with_logits(logits, targets, batch.weights, reduction="sum")


CLICKS = Objective()
