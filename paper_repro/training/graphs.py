"""CUDA graphs: the launches of a step, recorded once and replayed as one.

A step of small models is hundreds of kernels of a few microseconds each, which Python launches more
slowly than the device runs them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Calls before the capture: libraries set themselves up, kernels are compiled.
WARM_UP = 3


class CapturedStep:
    """A function from a tensor on the device to another, captured at its fourth call.

    All that the function reads and writes but for its argument must stay where it is, and it must
    not wait for the device. The result is overwritten by the next call.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._graph: torch.cuda.CUDAGraph | None = None
        self._calls = 0

    def __call__(self, argument: Tensor) -> Tensor:
        if self._calls < WARM_UP:
            return self._warm_up(argument)
        if self._graph is None:
            self._argument = argument.clone()
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph, stream=self._stream):
                self._result = self._function(self._argument)
        self._argument.copy_(argument)
        self._graph.replay()
        return self._result

    def _warm_up(self, argument: Tensor) -> Tensor:
        """On the stream of the capture, as it has to be."""
        self._calls += 1
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            result = self._function(argument)
        current.wait_stream(self._stream)
        return result
