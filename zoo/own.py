"""Networks of a user's own, by the name of their code: `package.module:function`.

The function takes what it needs of `num_classes`, `in_channels`, `mels` and `frames` by name and
returns a module that maps (N, channel, mel band, frame) to logits (N, classes). `@network(...)`
says what differs from the defaults.

Code is run only for those who name it: `allow` imports it in this process. A model file that names
such a network runs nothing, it is refused until its network was allowed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from compressor.errors import ShapeError, UnknownNameError, UsageError
from zoo import registry

__all__ = ["allow", "check_output", "code_digest", "is_own", "network"]

Builder = TypeVar("Builder", bound=Callable[..., nn.Module])

FRONT_END = "speakin2021"  # that of seresnet18, the network of the first sweep
FACTS = "_compressor_network"  # where `network` leaves what it was told


def network(
    *,
    front_end: str = FRONT_END,
    layout: registry.Layout = "CFT",
    ignored_layers: Sequence[str] = (),
) -> Callable[[Builder], Builder]:
    """Says how the decorated function's network wants its input; all has a default.

    Args:
        front_end: a log-mel preset, with or without changes, as `--front-end` takes it.
        layout: "CFT" is (channel, mel band, frame), "CTF" is (channel, frame, mel band).
        ignored_layers: qualified names whose output channels pruning never touches.
    """

    def mark(builder: Builder) -> Builder:
        setattr(builder, FACTS, (front_end, layout, tuple(ignored_layers)))
        return builder

    return mark


def is_own(name: str) -> bool:
    """Whether a name is that of a user's code and not of the zoo."""
    return ":" in name


def allow(name: str) -> str:
    """Imports a user's network, so that `zoo.entry` and `zoo.build` know it in this process.

    Modules are looked for in the current folder too, as `python -m` does. A name of the zoo is
    returned as it is.

    Args:
        name: "package.module:function", or the name of a network of the zoo.

    Returns:
        The name.

    Raises:
        UsageError: the module or the function is not there, or cannot be imported.
    """
    if not is_own(name) or name in registry.OWN:
        return name
    path, _, attribute = name.partition(":")
    if not (path and attribute.isidentifier() and all(map(str.isidentifier, path.split(".")))):
        raise UsageError(
            f"network {name!r}: write package.module:function, such as nets.small:build"
        )
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and (path + ".").startswith(error.name + "."):
            raise UsageError(
                f"network {name!r}: there is no module {error.name!r}; run the command in the "
                "folder that holds it, or install it"
            ) from error
        raise _failed(name, f"importing {path}", error) from error
    except Exception as error:
        raise _failed(name, f"importing {path}", error) from error
    builder = getattr(module, attribute, None)
    if builder is None:
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise UnknownNameError(f"function of {path}", attribute, functions)
    if not callable(builder):
        kind = type(builder).__name__
        raise UsageError(
            f"network {name!r} is a {kind}; name a function that returns a torch module"
        )
    registry.OWN[name] = _entry(name, builder)
    return name


def _entry(name: str, builder: Callable[..., Any]) -> registry.ModelEntry:
    layout: registry.Layout
    front_end, layout, ignored = getattr(builder, FACTS, (FRONT_END, "CFT", ()))

    @functools.wraps(builder)  # the registry reads the arguments off the function
    def checked(**arguments: Any) -> nn.Module:
        try:
            made = builder(**arguments)
        except (UsageError, ShapeError):
            raise
        except Exception as error:
            raise _failed(name, f"building it with {arguments}", error) from error
        if not isinstance(made, nn.Module):
            kind = type(made).__name__
            raise UsageError(f"network {name!r} returned a {kind}; it must return a torch module")
        return made

    accepted = inspect.signature(builder).parameters
    if "num_classes" not in accepted:
        raise UsageError(
            f"network {name!r} takes {', '.join(accepted) or 'nothing'}; it must take num_classes, "
            "the number of classes of the data (and may take in_channels, mels and frames)"
        )
    return registry.ModelEntry(
        name=name,
        title=(inspect.getdoc(builder) or name).splitlines()[0],
        family=name,
        year=0,
        task="",
        paper="",
        input_shape=(1, 40, 51) if layout == "CFT" else (1, 51, 40),
        layout=layout,
        num_classes=10,
        segment_s=1.0,
        front_end=front_end,
        status="certain",
        contradictions=(),
        reported=(),
        builder=checked,
        ignored_layers=ignored,
    )


def _failed(name: str, doing: str, error: Exception) -> UsageError:
    line = " ".join(str(error).split())[:300]
    where = ""
    for frame in inspect.trace():  # the innermost line of the user's own code
        if "importlib" not in frame.filename and Path(frame.filename) != Path(__file__):
            where = f" ({frame.filename}, line {frame.lineno})"
    return UsageError(f"network {name!r}: {doing} failed: {type(error).__name__}: {line}{where}")


def code_digest(name: str) -> str:
    """The start of the SHA-256 of the file that holds an allowed network's function."""
    file = inspect.getsourcefile(inspect.unwrap(registry.entry(name).builder))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16] if file else ""


def check_output(name: str, model: nn.Module, shape: Sequence[int], num_classes: int) -> None:
    """Runs a user's network on two silent clips: the mistake is found before anything is trained.

    Args:
        name: of the network.
        model: it.
        shape: of one input, without the batch axis.
        num_classes: logits that are expected.

    Raises:
        ShapeError: it cannot take the input, or gives something else than (2, num_classes).
    """
    training = model.training
    try:
        with torch.no_grad():
            out = model.eval()(torch.zeros(2, *shape))
    except Exception as error:
        text = str(
            _failed(name, f"running it on an input of (2, {', '.join(map(str, shape))})", error)
        )
        raise ShapeError(text) from error
    finally:
        model.train(training)
    found = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
    if found != (2, num_classes):
        raise ShapeError(
            f"network {name!r} gives {found} for two clips, expected (2, {num_classes}): logits of "
            "each clip's classes"
        )
