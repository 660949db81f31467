"""What all commands have in common: help, examples, plain errors, quiet and verbose."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compressor.cli import console, main
from compressor.cli.commands import examples_of
from compressor.cli.settings import commands_of, root

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {" ".join(path): command for path, command in commands_of(root())}


def run_main(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Runs the whole command line in this process: exit code, output, errors."""
    monkeypatch.setattr(sys, "argv", ["compressor", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_examples_that_parse(name: str) -> None:
    help_text = CliRunner().invoke(main.app, [*name.split(), "--help"]).output
    examples = COMMANDS[name].examples
    assert examples, f"{name} has no example in its docstring"
    for example in examples:
        assert example in help_text  # as it was written, on one line
        words = shlex.split(example.partition(" > ")[0])
        assert words[: 1 + len(name.split())] == ["compressor", *name.split()]
        context = COMMANDS[name].make_context(
            name, words[1 + len(name.split()) :], resilient_parsing=False
        )
        assert context.params.keys() >= set()


def test_examples_of_a_docstring() -> None:
    text = "Do it.\n\n    More.\n\n    Examples:\n      compressor a\n      compressor b\n    "
    assert examples_of(text) == ("Do it.\n\nMore.", ["compressor a", "compressor b"])
    assert examples_of("Do it.\n\nExample: compressor a b") == ("Do it.", ["compressor a b"])
    assert examples_of("No example of that here.") == ("No example of that here.", [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sweeep"], "no such command 'sweeep'; did you mean 'sweep'?"),
        (["zoo", "lst"], "no such command 'lst'; did you mean 'list'?"),
        (["sweep", "--prun", "0.5"], "did you mean --prune,"),
        (["train", "m.pt", "--precision", "flot32"], "did you mean float32"),
        (["train", "m.pt", "--model", "seresnet81"], "did you mean seresnet18"),
        (["audit", "m.pt", "--year", "2032"], "did you mean 2025"),
        (["audit"], "name a model file"),
        (["slim"], "missing argument 'MODEL.pt'"),
    ],
)
def test_mistakes_are_one_line_with_the_closest_name(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = run_main(monkeypatch, capsys, *arguments)
    assert code == 2
    assert out == ""
    first, *rest = err.strip().splitlines()
    assert first.startswith("error: ")
    assert said in first
    assert all(line.startswith("see ") and line.endswith(" --help") for line in rest)


@pytest.mark.parametrize("command", ["audit", "cast"])
def test_a_mistyped_file_name(
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "dense-42.pt").write_text("")
    code, _, err = run_main(monkeypatch, capsys, command, "models/dnese-42.pt")
    assert code in (2, 3)
    assert err.startswith("error: ")
    assert err.strip().endswith("; did you mean models/dense-42.pt?")
    _, _, err = run_main(monkeypatch, capsys, command, "models/else.pt")
    assert "did you mean" not in err


def test_no_command_shows_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_main(monkeypatch, capsys)
    assert code == 2
    assert all(name.split()[0] in out for name in COMMANDS)
    assert err == ""


def test_a_mistake_of_ours_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(**_: object) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(main, "app", broken)
    monkeypatch.setattr(console, "_level", 0)
    code, _, err = run_main(monkeypatch, capsys)
    assert code == 3
    assert err.startswith("error: ZeroDivisionError: by nothing; this is a mistake of compressor")
    monkeypatch.setattr(console, "_level", 1)
    with pytest.raises(ZeroDivisionError):
        main.main()


def test_quiet_and_verbose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.compressor.audit]\nyear = 2031\n")
    seen: list[bool] = []
    for arguments in (["zoo", "list", "-q"], ["-q", "zoo", "list"], ["zoo", "list"]):
        monkeypatch.setattr(console, "progress", _recorded(seen))
        CliRunner().invoke(main.app, [*arguments, "--format", "json"])
    assert seen == [True, True, False]
    _, _, err = run_main(monkeypatch, capsys, "audit", "x.pt", "-v")
    assert "from the settings file: --year 2031" in err


def _recorded(seen: list[bool]):  # type: ignore[no-untyped-def]
    def progress(description: str, total: int) -> None:
        seen.append(console.is_quiet())
        raise KeyboardInterrupt  # far enough

    return progress


def test_plain_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    class Screen:
        def isatty(self) -> bool:
            return True

    screen = Screen()
    for name in ("NO_COLOR", "CI", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert console.fancy(screen)  # type: ignore[arg-type]
    for name, value in (("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not console.fancy(screen), name  # type: ignore[arg-type]
    monkeypatch.setenv("CI", "false")
    assert console.fancy(screen)  # type: ignore[arg-type]
    assert not console.fancy(io.StringIO())


def test_rate() -> None:
    assert console.rate_words(12.34) == "12.3/s"
    assert console.rate_words(0.125) == "8.0 s each"


def test_help_is_quick_and_loads_no_torch() -> None:
    """Under 0.3 s of CPU, and neither torch nor rich nor pandas."""
    code = (
        "import sys, time; sys.argv=['compressor','--help']\n"
        "from compressor.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy={'torch','rich','pandas','altair','numpy','zoo','sphinx'} & set(sys.modules)\n"
        "print(heavy, file=sys.stderr); print(time.process_time(), file=sys.stderr)\n"
    )
    best = 9.0
    for _ in range(3):  # the machine may be busy: the least of three
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        heavy, seconds = done.stderr.splitlines()[-2:]
        assert heavy == "set()"
        best = min(best, float(seconds))
    assert best < 0.3
