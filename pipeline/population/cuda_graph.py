"""Owns the recording of a training step: a GPU is told of it at once, not kernel by kernel.

A step is some sixty kernels of microseconds. To tell a GPU of them one after another takes the
processor longer than the GPU takes to run them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache

import torch
from torch import Tensor

# It takes what differs from batch to batch: tensors, or None where there is no such thing.
Step = Callable[..., None]

# To record a step takes longer than to run it: an epoch of fewer has little to gain.
FEWEST_STEPS = 8


class StepRecorder:
    """Records the steps of a trainer, one after another in one piece of the GPU's memory."""

    def __init__(self) -> None:
        # What the last graph computed in is free for the next one, for as long as this one lives.
        self._last: torch.cuda.CUDAGraph | None = None

    def recorded(self, step: Step) -> Step:
        """The same step, for as long as the tensors that it closes over stay where they are.

        The first batch is run as it is, which makes whatever is made on first use, and recorded
        then. All of its shape are replayed; one of another shape, the last of an epoch, is run as
        it is. The kernels are the same, and so are the bits.
        """
        graph: torch.cuda.CUDAGraph | None = None
        inputs: tuple[Tensor | None, ...] = ()

        def run(*given: Tensor | None) -> None:
            nonlocal graph, inputs
            if graph is not None and _shapes(given) == _shapes(inputs):
                for fixed, tensor in zip(inputs, given, strict=True):
                    if fixed is not None and tensor is not None:
                        fixed.copy_(tensor)
                graph.replay()
                return
            step(*given)
            if graph is None:
                inputs = tuple(None if tensor is None else tensor.clone() for tensor in given)
                graph = self._record(step, inputs)

        return run

    def _record(self, step: Step, inputs: tuple[Tensor | None, ...]) -> torch.cuda.CUDAGraph:
        # Not `torch.cuda.graph`, which gives all cached memory back first: every epoch would ask
        # the driver for its memory anew.
        graph = torch.cuda.CUDAGraph()
        stream = _recording_stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Other threads may do on their GPU what they like meanwhile.
            pool = None if self._last is None else self._last.pool()
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                step(*inputs)
            except BaseException:
                with suppress(RuntimeError):  # the first error is the one to hear of
                    graph.capture_end()
                raise
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        self._last = graph
        return graph


@cache
def _recording_stream() -> torch.cuda.Stream:
    """One for the whole process: cuBLAS keeps 32 MiB for every stream that it has ever worked on.

    Source: PyTorch's CUDA semantics, "cuBLAS workspaces".
    """
    return torch.cuda.Stream()


def _shapes(tensors: tuple[Tensor | None, ...]) -> list[torch.Size | None]:
    return [None if tensor is None else tensor.shape for tensor in tensors]
