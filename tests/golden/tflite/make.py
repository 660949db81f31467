"""Makes the TFLite files beside this script: real ones, written by TensorFlow's own converter.

Not a test and not run by one: it needs TensorFlow, which the project does not install. With
`pip install tensorflow-cpu==2.21.0 tf-keras==2.21.0` in an environment of its own:

    python tests/golden/tflite/make.py

The weights are random numbers of a fixed seed; no recording was used. What the files hold is worked
out by hand in tests/audit/test_tflite_real.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # Keras 2 keeps an LSTM as one operator

import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).resolve().parent
KERAS = tf.keras
LAYERS = KERAS.layers


def small() -> Any:
    """Convolutions of all kinds, a sum, a product, pooling, a fully connected layer."""
    given = LAYERS.Input((16, 12, 1), batch_size=1)
    x = LAYERS.Conv2D(4, 3, padding="same")(given)
    x = LAYERS.BatchNormalization()(x)
    x = LAYERS.ReLU()(x)
    x = LAYERS.DepthwiseConv2D(3, strides=2, padding="same")(x)
    y = LAYERS.Conv2D(4, 1)(x)
    x = LAYERS.Add()([x, y])
    x = LAYERS.Multiply()([x, LAYERS.Activation("sigmoid")(y)])
    x = LAYERS.Conv2DTranspose(3, 2, strides=2)(x)
    x = LAYERS.AveragePooling2D(2)(x)
    x = LAYERS.GlobalAveragePooling2D()(x)
    return KERAS.Model(given, LAYERS.Dense(5, activation="softmax")(x))


def lstm() -> Any:
    """One LSTM of 8 units over 10 steps of 6 numbers."""
    given = LAYERS.Input((10, 6), batch_size=1)
    return KERAS.Model(given, LAYERS.Dense(3)(LAYERS.LSTM(8)(given)))


def gru() -> Any:
    """One GRU of 8 units over 10 steps of 6 numbers: a WHILE."""
    given = LAYERS.Input((10, 6), batch_size=1)
    return KERAS.Model(given, LAYERS.Dense(3)(LAYERS.GRU(8)(given)))


class Product(LAYERS.Layer):  # type: ignore[misc]
    """x times its own transpose."""

    def call(self, x: Any) -> Any:
        """Returns (1, T, T)."""
        return tf.matmul(x, x, transpose_b=True)


def attention() -> Any:
    """A product of two activations between two fully connected layers."""
    given = LAYERS.Input((7, 6), batch_size=1)
    return KERAS.Model(given, LAYERS.Dense(3)(Product()(LAYERS.Dense(4)(given))))


def convert(model: Any, mode: str) -> bytes:
    """Converts a model after giving every weight, biases too, random numbers."""
    random = np.random.default_rng(7)
    shape = model.inputs[0].shape
    model.set_weights([random.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if mode != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if mode == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if mode in {"int8", "int16x8"}:

        def clips() -> Iterator[list[Any]]:
            for _ in range(4):
                yield [random.standard_normal(shape).astype("float32")]

        converter.representative_dataset = clips
        kinds = tf.lite.OpsSet
        converter.target_spec.supported_ops = [
            kinds.TFLITE_BUILTINS_INT8
            if mode == "int8"
            else kinds.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    return bytes(converter.convert())


def main() -> None:
    """Writes all files."""
    for builder, modes in (
        (small, ("float16", "int8", "int16x8")),
        (lstm, ("int8",)),
        (gru, ("dynamic",)),
        (attention, ("int8",)),
    ):
        for mode in modes:
            data = convert(builder(), mode)
            (FOLDER / f"{builder.__name__}-{mode}.tflite").write_bytes(data)


if __name__ == "__main__":
    main()
