"""`compressor compress` and the single verbs on a few clips: files, tables, exit codes."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import Result

from compressor.artifact import load
from compressor.audit import audit
from compressor.cli.compress import COMMANDS
from compressor.cli.recipe_args import one_line, parse_mixed
from compressor.cli.train import train
from compressor.engine import Keeper
from compressor.errors import CompressorError, ConfigError, PruneError, UsageError
from compressor.recipe import Cast, Export, Finetune, Prune, Quantize, Recipe, Slim, read_recipe

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sweep"))
import in_process
from tiny_data import write_tiny

app = typer.Typer()
for name, function in COMMANDS:
    app.command(name)(function)
app.command("train")(train)
invoke = partial(in_process.invoke, app)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, cache and a trained network."""
    root = tmp_path_factory.mktemp("compress")
    write_tiny(root / "data")
    result = invoke(
        "train", root / "model.pt", "--model-arg", "strides=1,2,2,2", "--epochs", "1",
        "--batch-size", "8", "--data", root / "data", "--cache", root / "cache",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return root


def data(home: Path) -> list[object]:
    return ["--data", home / "data", "--cache", home / "cache"]


def rows(result: Result) -> list[list[str]]:
    verdict, table = result.stdout.split("\n\n")[:2]
    assert verdict.startswith(("PASS", "FAIL", "DEPENDS"))
    lines = table.splitlines()
    return [line.replace("(as it was)", "start").split() for line in lines[1:]]


def test_one_line_form(home: Path, tmp_path: Path) -> None:
    before = (home / "model.pt").read_bytes()
    out, recipe = tmp_path / "small.pt", tmp_path / "steps.toml"
    result = invoke(
        "compress", home / "model.pt", "--slim", "0.5", "--finetune", "1", "--teacher", "self",
        "--cast", "float16", "--out", out, "--save-recipe", recipe, "--keep-steps", *data(home),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert (home / "model.pt").read_bytes() == before
    assert result.stdout.strip().splitlines()[-1] == str(out)
    table = rows(result)
    assert [row[0] for row in table] == ["start", "slim", "finetune", "cast"]
    counted = audit(out)
    assert table[-1][1:4] == [
        f"{counted.params:,}",
        f"{counted.nonzero_params:,}",
        f"{counted.param_bytes:,}",
    ]
    artifact = load(out)
    assert artifact.dtype == "float16"
    scores = artifact.metrics["test"]
    assert table[-1][5] == f"{100 * scores['accuracy']:.1f}"
    assert artifact.provenance["command"][0] == "compressor"
    assert read_recipe(recipe) == Recipe(
        (Slim(ratio=0.5), Finetune(epochs=1, teacher="self"), Cast("float16"))
    )
    kept = sorted(path.name for path in tmp_path.glob("small.step*"))
    assert kept == ["small.step1-slim.pt", "small.step2-finetune.pt", "small.step3-cast.pt"]

    again = invoke(
        "compress", home / "model.pt", "--recipe", recipe, "--out", out, "--keep-steps",
        "--format", "json", *data(home),
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    record = json.loads(again.stdout)
    assert [step["resumed"] for step in record["steps"]] == [True, True, True]
    assert record["steps"][-1]["audit"]["after"]["param_bytes"] == counted.param_bytes
    assert Recipe.from_dict(record["recipe"]) == read_recipe(recipe)
    assert "taken from an earlier run" in again.stderr


def test_single_verbs_without_data(home: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    model.write_bytes((home / "model.pt").read_bytes())
    result = invoke("slim", model, "--target-params", "20000", "--importance", "l2")
    assert result.exit_code == 0, result.output
    assert rows(result)[-1][5] == "–"
    assert "no accuracy: give --data" in result.stdout
    assert 19_000 < audit(tmp_path / "model-slim.pt").params <= 20_000
    result = invoke("prune", model, "0.6", "--scope", "layer")
    assert result.exit_code == 0, result.output
    assert "60.0% of" in result.stdout
    assert "2021 counts non-zero parameters only" in result.stdout
    assert "2023 counts all parameters" in result.stdout
    result = invoke("prune", model, "--pattern", "2:4", "--out", tmp_path / "nm.pt")
    assert result.exit_code == 0, result.output
    assert "does not divide the inputs of stem.0" in result.stdout
    result = invoke("cast", model, "float16")
    assert result.exit_code == 0, result.output
    assert load(tmp_path / "model-float16.pt").dtype == "float16"
    assert model.read_bytes() == (home / "model.pt").read_bytes()


def test_finetune_verb(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned.pt"
    result = invoke(
        "finetune", home / "model.pt", "1", "--lr", "0.001", "--teacher", home / "model.pt",
        "--out", out, *data(home),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    step = load(out).history[-1]
    assert (step["step"], step["settings"]["lr"], step["settings"]["epochs"]) == (
        "finetune",
        0.001,
        1,
    )
    assert step["settings"]["gamma_l1"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["slim", "MODEL", "1.0"], ConfigError, "ratio is 1.0"),
        (["slim", "MODEL"], ConfigError, "needs either a ratio"),
        (["slim", "MODEL", "0.5", "--out", "MODEL"], UsageError, "never changed"),
        (["slim", "MODEL", "0.5", "--fit", "dcase2023"], ConfigError, "found ratio and fit"),
        (["slim", "MODEL", "--fit", "dcase2032"], CompressorError, "unknown rules to fit"),
        (["slim", "MODEL", "--target-macs", "10"], PruneError, "cannot be reached"),
        (["prune", "MODEL"], UsageError, "give a share of zeros"),
        (["prune", "MODEL", "0.9999"], PruneError, "layer 'stem.0' would lose all"),
        (["finetune", "MODEL", "1"], UsageError, "step finetune needs clips; add --data"),
        (["compress", "MODEL"], UsageError, "nothing to do"),
        (["compress", "MODEL", "--slim", "0.5", "--temperature", "3"], UsageError, "no --teacher"),
        (["compress", "MODEL", "--slim", "0.5", "--teacher", "self"], UsageError, "no step trains"),
        (["compress", "MODEL", "--importance", "l1"], UsageError, "neither --slim nor a target"),
        (["compress", "MODEL", "--qat-epochs", "3"], UsageError, "--quantize is not"),
        (["compress", "MODEL", "--placement", "fastest"], UsageError, "but --quantize is not"),
        (["compress", "MODEL", "--slim", "0.5", "--keep-float", "fc"], UsageError, "--keep-float"),
        (["compress", "MODEL", "--slim", "0.5", "--scope", "layer"], UsageError, "nor --pattern"),
        (["compress", "MODEL", "--slim", "0.5", "--lr", "0.1"], UsageError, "--finetune is not"),
        (["compress", "MODEL", "--cast", "float16", "--keep", "fc"], UsageError, "removes"),
        (
            ["compress", "MODEL", "--quantize", "int8-ptq", "--engine", "light"],
            UsageError,
            "--engine is given, but it is of int8-qat and does nothing in int8-ptq",
        ),
        (["compress", "MODEL", "--recipe", "GONE", "--equalize"], UsageError, "--recipe too"),
        (
            ["compress", "MODEL", "--quantize", "int8-ptq", "--placement", "fast"],
            CompressorError,
            "did you mean fastest",
        ),
        (["quantize", "MODEL", "int8-ptq", "--teacher", "self"], UsageError, "does not train"),
        (["quantize", "MODEL", "int8-qat", "--equalize"], UsageError, "it is of int8-ptq"),
        (["compress", "GONE", "--slim", "0.5"], CompressorError, "cannot be read"),
        (["compress", "MODEL", "--slim", "0.5", "--data", "GONE"], CompressorError, "GONE"),
        (["compress", "MODEL", "--recipe", "GONE"], ConfigError, "cannot be read"),
        (["cast", "MODEL", "float8"], CompressorError, "did you mean float16"),
        (["quantize", "MODEL", "--mixed", "fc"], UsageError, "write LAYER=BITS"),
    ],
)
def test_bad_usage(
    home: Path, arguments: list[str], error: type[CompressorError], message: str
) -> None:
    model = home / "model.pt"
    before = model.read_bytes()
    files = sorted(home.iterdir())
    names = {"MODEL": str(model), "GONE": str(home / "GONE")}
    result = invoke(*[names.get(argument, argument) for argument in arguments])
    assert isinstance(result.exception, error), result.output
    assert result.exception.exit_code == (3 if issubclass(error, PruneError) else 2) or (
        error is CompressorError
    )
    assert message in str(result.exception)
    if "what can be opened" not in str(result.exception):  # a list of kinds of data
        assert "\n" not in str(result.exception)
    assert model.read_bytes() == before
    assert sorted(home.iterdir()) == files  # nothing was written


def test_a_link_to_the_model_is_the_model(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link.pt").symlink_to(home / "model.pt")
    result = invoke("cast", home / "model.pt", "--out", tmp_path / "link.pt")
    assert isinstance(result.exception, UsageError)


def test_an_interrupt_keeps_finished_steps(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Keeper.keep

    def kill(self: Keeper, index: int, kind: str, artifact: Any) -> Path:
        keep(self, index, kind, artifact)
        raise KeyboardInterrupt

    out = tmp_path / "small.pt"
    arguments = ["compress", home / "model.pt", "--slim", "0.5", "--cast", "float16", "--out", out]
    monkeypatch.setattr(Keeper, "keep", kill)
    result = invoke(*arguments, "--keep-steps")
    assert result.exit_code == 130
    assert "the same command goes on" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["small.step1-slim.pt"]
    monkeypatch.setattr(Keeper, "keep", keep)
    result = invoke(*arguments, "--keep-steps")
    assert result.exit_code == 0
    assert "step 1/2 slim: taken from an earlier run" in result.stderr
    assert load(out).dtype == "float16"


def make(**given: Any) -> tuple[Any, ...]:
    options: dict[str, Any] = dict.fromkeys(
        ("recipe", "slim", "prune", "pattern", "keep", "finetune", "lr", "cast", "quantize",
         "export", "seed")
    )  # fmt: skip
    tables = ("targets", "slim_options", "prune_options", "quantize_options", "distill")
    return one_line(**{**options, **{name: {} for name in tables}, **given}).steps


def test_options_become_steps_in_their_order() -> None:
    assert make(
        export="onnx",
        quantize="int8-qat",
        quantize_options={"qat_epochs": 3},
        finetune=20,
        slim=0.65,
        prune=0.5,
    ) == (
        Slim(ratio=0.65),
        Prune(sparsity=0.5),
        Finetune(epochs=20),
        Quantize(scheme="int8-qat", epochs=3),
        Export(to="onnx"),
    )
    taught = {"teacher": "self", "weight": 0.3}
    assert make(finetune=2, quantize="int8-qat", distill=taught) == (
        Finetune(epochs=2, teacher="self", weight=0.3),
        Quantize(scheme="int8-qat", teacher="self", weight=0.3),
    )
    assert make(finetune=2, quantize="int8-ptq", distill=taught)[1] == Quantize()
    assert make(
        targets={"fit": "dcase2023", "target_macs": 5}, slim_options={"importance": "l1"}
    ) == (Slim(fit="dcase2023", target_macs=5, importance="l1"),)
    assert make(pattern="2:4") == (Prune(pattern="2:4"),)
    with pytest.raises(UsageError, match="both say which weights go"):
        make(prune=0.5, pattern="2:4")
    with pytest.raises(ConfigError, match="put cast last"):
        make(cast="float16", quantize="int8-ptq")
    assert parse_mixed(["a.b=4", "c=2"]) == {"a.b": 4, "c": 2}


def test_the_one_line_form_reaches_what_the_verbs_do(home: Path, tmp_path: Path) -> None:
    """Every option of a single verb that sets a field of its step; compared with the step."""
    recipe = tmp_path / "steps.json"
    result = invoke(
        "compress", home / "model.pt", "--slim", "0.3", "--by", "params", "--importance", "l2",
        "--min-channels", "3", "--min-share", "0.1", "--prune", "0.2", "--scope", "layer",
        "--keep", "stem.0", "--finetune", "1", "--lr", "0.001",
        "--quantize", "int8-ptq", "--clips", "8", "--calibration", "entropy",
        "--weight-bits", "6", "--mixed", "layers.0.conv1=4", "--keep-float", "fc",
        "--float-compute", "stem", "--placement", "integers", "--bias-correction", "--equalize",
        "--save-recipe", recipe, "--out", tmp_path / "small.pt", *data(home),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert read_recipe(recipe).steps == (
        Slim(
            ratio=0.3,
            by="params",
            importance="l2",
            min_channels=3,
            min_share=0.1,
            keep=("stem.0",),
        ),
        Prune(sparsity=0.2, scope="layer", keep=("stem.0",)),
        Finetune(epochs=1, settings={"lr": 0.001}),
        Quantize(
            calibration_clips=8,
            calibration="entropy",
            weight_bits=6,
            mixed={"layers.0.conv1": 4},
            keep_float=("fc",),
            float_compute=("stem",),
            placement="integers",
            bias_correction=True,
            equalize=True,
        ),
    )
    assert load(tmp_path / "small.pt").quantization["float_compute"] == ["stem"]
    assert make(prune=0.5, prune_options={"gradual": 3}) == (
        Prune(sparsity=0.5, schedule="gradual", epochs=3),
    )
    assert make(quantize="int8-qat", quantize_options={"engine": "brevitas"}) == (
        Quantize(scheme="int8-qat", engine="brevitas"),
    )


def test_no_option_of_a_verb_is_missing_in_the_one_line_form() -> None:
    import inspect

    functions = dict(COMMANDS)
    known = inspect.signature(functions["compress"]).parameters
    renamed = {"ratio": "slim", "sparsity": "prune", "dtype": "cast", "scheme": "quantize"}
    for verb in ("slim", "prune", "finetune", "cast", "quantize"):
        epochs = {"epochs": "finetune" if verb == "finetune" else "qat_epochs"}
        for name in inspect.signature(functions[verb]).parameters:
            assert {**renamed, **epochs}.get(name, name) in known, f"{verb} --{name}"


def test_help_needs_no_torch() -> None:
    import subprocess

    code = (
        "import sys; import compressor.cli.compress; "
        "print([m for m in ('torch', 'numpy', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_seed_decides(home: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.pt" for i in range(3)]
    for seed, path in zip((1, 1, 2), files, strict=True):
        result = invoke(
            "slim", home / "model.pt", "0.5", "--importance", "random", "--seed", seed,
            "--out", path,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
    states = [list(load(path).state_dict.values()) for path in files]
    assert all(map(torch.equal, states[0], states[1]))
    assert [t.shape for t in states[0]] != [t.shape for t in states[2]]
