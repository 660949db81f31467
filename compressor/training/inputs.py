"""From cached float16 features to what a network is given.

The features of a part lie in memory as one float16 tensor (on the GPU where there is one) and each
batch is converted on its own: that halves the memory, and taking rows out of a tensor costs a
hundredth of what loader processes cost. A part too large for memory is read from its memory map
batch by batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressor.errors import DataError, UsageError

if TYPE_CHECKING:
    from compressor.data.features import FeatureSet, Standardizer

__all__ = ["Clips", "Preparer", "crashes_channels_last", "pick_device", "set_channels_last"]

IN_MEMORY_BYTES = 2 * 2**30  # larger parts stay on disk


def pick_device(name: str) -> torch.device:
    """The device of a name: "auto" is CUDA where there is one, otherwise the CPU.

    Raises:
        UsageError: a device that torch does not know or that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}; use auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {name!r} asked for, but torch finds no CUDA device; use auto")
    return device


class Clips:
    """The features of one part, in memory where they fit, taken by row."""

    def __init__(self, features: FeatureSet, device: torch.device) -> None:
        self._features = features
        self._device = device
        self._x: Tensor | None = None
        bytes_per_clip = 2 * int(np.prod(features.x.shape[1:]))
        if len(features) * bytes_per_clip <= IN_MEMORY_BYTES:
            x = np.ascontiguousarray(features.array())
            # torch refuses to share a read-only map
            self._x = torch.from_numpy(x if x.flags.writeable else x.copy()).to(device)
            if not bool(torch.isfinite(self._x).all()):
                raise DataError(
                    "features hold infinite or NaN values, which float16 makes of anything beyond "
                    "65,504; check the recordings, or delete the feature cache and extract again"
                )
        self.y = torch.from_numpy(np.array(features.y, dtype=np.int64)).to(device)

    def __len__(self) -> int:
        return len(self._features)

    def take(self, rows: NDArray[Any]) -> Tensor:
        """Features of the given rows of the part: (len(rows), C, M, T) float16 on the device."""
        if self._x is not None:
            return self._x.index_select(0, self._rows(rows))
        return torch.from_numpy(self._features.take(rows)).to(self._device)

    def labels(self, rows: NDArray[Any]) -> Tensor:
        """Class indices of the given rows: (len(rows),) int64 on the device."""
        return self.y.index_select(0, self._rows(rows))

    def _rows(self, rows: NDArray[Any]) -> Tensor:
        return torch.from_numpy(rows).to(self._device)


class Preparer:
    """Standardisation and the order of axes and memory that a network expects."""

    def __init__(
        self,
        standardizer: Standardizer,
        layout: str,
        device: torch.device,
        channels_last: bool = False,
    ) -> None:
        if layout not in ("CFT", "CTF"):
            raise UsageError(f"layout is {layout!r}; allowed: CFT, CTF")
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=device)[None, :, :, None]
            for values in (standardizer.mean, standardizer.std)
        )
        self._transpose = layout == "CTF"
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    def standardize(self, x: Tensor) -> Tensor:
        """(N, C, M, T) in float16 to zero mean and unit deviation a band, in float32."""
        return x.float().sub_(self._mean).div_(self._std)

    def arrange(self, x: Tensor) -> Tensor:
        """(N, C, M, T) as (N, C, M, T) or (N, C, T, M), in the memory format of the network."""
        x = x.transpose(2, 3) if self._transpose else x
        return x.contiguous(memory_format=self._format)

    def __call__(self, x: Tensor) -> Tensor:
        """Standardise and arrange, nothing drawn: what evaluation feeds."""
        return self.arrange(self.standardize(x))


def crashes_channels_last(model: nn.Module, device: torch.device) -> bool:
    """Whether channels-last could end the process with a segmentation fault.

    On the CPU oneDNN (as built into torch 2.13) crashes in channels-last on strided 1×1
    convolutions with under 16 inputs, which are typical of shortcuts and more so of pruned ones.
    """
    return device.type == "cpu" and any(
        isinstance(layer, nn.Conv2d)
        and tuple(layer.kernel_size) == (1, 1)
        and max(layer.stride) > 1
        and layer.in_channels // layer.groups < 16
        for layer in model.modules()
    )


def set_channels_last(model: nn.Module, on: bool) -> None:
    """Put the weights into channels-last order, or back.

    Back they must go before anyone else gets the network: a pruned copy of one left in
    channels-last could crash as described above.
    """
    order = torch.channels_last if on else torch.contiguous_format
    model.to(memory_format=order)  # type: ignore[call-overload]
