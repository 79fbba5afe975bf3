"""Adam for the dense parameters, all at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

from ecdctr_spark.models.rowwise_adagrad import Number

_MEAN_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8
_KINDS = ("step", "exp_avg", "exp_avg_sq")  # of a parameter's state, as torch names them


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101) of a model's parameters.

    They become views of one vector, in their order, so that an update is a few operations however many there are.
    torch.optim.AdamW makes the same update, with some operations for each parameter, and imports torch's compiler when
    it is constructed, which takes seconds.

    `steps` are those of each parameter: one that is new beside others has made fewer.
    """

    def __init__(self, model: nn.Module, weight_decay: float) -> None:
        parameters = dict(model.named_parameters())
        self._weight_decay = weight_decay
        self._shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.steps = dict.fromkeys(parameters, 0)
        self._values = torch.cat([parameter.detach().flatten() for parameter in parameters.values()])
        for name, piece in self._pieces(self._values).items():
            parameters[name].data = piece
        self._mean, self._square = torch.zeros_like(self._values), torch.zeros_like(self._values)

    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """Updates the parameters by their gradient, one vector in their order."""
        factors = self.factors(learning_rate)
        self.count()
        self.move(gradient, factors)

    def factors(self, learning_rate: float) -> list[float]:
        """The factors of the next step: that by which the parameters decay, and for each run of them, which have made
        the same number of steps, its epsilon and its rate."""
        factors = [1 - learning_rate * self._weight_decay]
        for made, _ in self._runs():
            # The corrections of both moments as one factor of the rate and one of epsilon: fewer passes.
            correction = math.sqrt(1 - _SQUARE_DECAY ** (made + 1))
            factors += [_EPSILON * correction, learning_rate * correction / (1 - _MEAN_DECAY ** (made + 1))]
        return factors

    def count(self) -> None:
        """Counts a step."""
        self.steps = {name: made + 1 for name, made in self.steps.items()}

    @torch.no_grad()
    def move(self, gradient: Tensor, factors: Sequence[Number]) -> None:
        """Updates the parameters by their gradient with a step's factors, and does not count it. Factors that are
        tensors of no dimension may change from one replay of a graph to the next."""
        self._mean.lerp_(gradient, 1 - _MEAN_DECAY)
        self._square.mul_(_SQUARE_DECAY).addcmul_(gradient, gradient, value=1 - _SQUARE_DECAY)
        decay, *pairs = factors
        if self._weight_decay:
            self._values.mul_(decay)
        for (_, run), epsilon, rate in zip(self._runs(), pairs[::2], pairs[1::2], strict=True):
            root = self._square[run].sqrt().add_(epsilon)
            if isinstance(rate, Tensor):
                self._values[run].addcdiv_(self._mean[run] * rate, root, value=-1.0)
            else:
                self._values[run].addcdiv_(self._mean[run], root, value=-rate)

    def vectors(self) -> tuple[Tensor, Tensor, Tensor]:
        """The parameters, the means of their gradients and those of the squares, each as one vector: this memory."""
        return self._values, self._mean, self._square

    def tensors(self) -> dict[str, Tensor]:
        """The state by `parameter/kind`; that of a parameter without steps is left out. It shares this memory."""
        steps = {name: torch.tensor(float(steps)) for name, steps in self.steps.items()}
        states = zip(_KINDS, (steps, self._pieces(self._mean), self._pieces(self._square)), strict=True)
        return {f"{name}/{kind}": of[name] for kind, of in states for name in self.steps if self.steps[name]}

    @torch.no_grad()
    def take(self, name: str, kind: str, tensor: Tensor) -> None:
        """Sets the state of a parameter to what `tensors` gave of another training."""
        if kind == "step":
            self.steps[name] = int(tensor)
        else:
            moments = self._mean if kind == "exp_avg" else self._square
            self._pieces(moments)[name].copy_(tensor)

    def _pieces(self, vector: Tensor) -> dict[str, Tensor]:
        """Each parameter's part of a vector, in its shape."""
        parts = torch.split(vector, [shape.numel() for shape in self._shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}

    def _runs(self) -> Iterator[tuple[int, slice]]:
        """The parts of the vectors whose parameters have made the same number of steps: one, for most models."""
        start = 0
        for steps, names in groupby(self.steps, key=self.steps.__getitem__):
            end = start + sum(self._shapes[name].numel() for name in names)
            yield steps, slice(start, end)
            start = end
