"""SpecAugment++ in hidden layers: hooks that mix stripes of one clip's maps into another's.

H. Wang, Y. Zou and W. Wang, "SpecAugment++", 2021, as PKU/Xiaomi's DCASE 2022 report uses it
(section 3.1). Which layers are masked the report does not say; the settings name them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from torch import Tensor, nn

from compressor.errors import ShapeError, UnknownNameError
from compressor.training.settings import TrainSettings

__all__ = ["hidden_masks"]


@contextmanager
def hidden_masks(
    model: nn.Module, settings: TrainSettings, layout: str, rng: np.random.Generator
) -> Iterator[None]:
    """While the context lasts, and the network is in training mode, mask the layers' outputs.

    Args:
        model: with layers of the names in `settings.hidden_mask_layers`, each giving (N, C, M, T),
            or (N, C, T, M) for layout "CTF".
        settings: number and width of the masks; nothing is done unless `mix_masks` is
            "input+hidden".
        layout: axes of the network.
        rng: where masks and partners are drawn from.

    Raises:
        UnknownNameError: the network has no such layer.
        ShapeError: a layer's output is no map.
    """
    if settings.mix_masks != "input+hidden":
        yield
        return
    from compressor.audio.specaug_pp import random_mix_masks

    over_mels = (settings.freq_masks, settings.freq_mask_share)
    over_time = (settings.time_masks, settings.time_mask_share)
    third, fourth = (over_time, over_mels) if layout == "CTF" else (over_mels, over_time)

    def mask(layer: nn.Module, _: object, result: Tensor) -> Tensor:
        if not layer.training:
            return result
        if not isinstance(result, Tensor) or result.ndim != 4:
            shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ShapeError(
                f"hidden_mask_layers: {names[layer]!r} gives {shape}, not maps (N, C, mel, time); "
                "name a convolutional layer or block"
            )
        return random_mix_masks(
            result,
            rng,
            freq_masks=third[0],
            freq_share=third[1],
            time_masks=fourth[0],
            time_share=fourth[1],
        )

    layers = dict(model.named_modules())
    names: dict[nn.Module, str] = {}
    for name in settings.hidden_mask_layers:
        if name not in layers:
            raise UnknownNameError("layer in hidden_mask_layers", name, [n for n in layers if n])
        names[layers[name]] = name
    handles = [layer.register_forward_hook(mask) for layer in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
