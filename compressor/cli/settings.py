"""Settings of the commands: `[tool.compressor]` in pyproject.toml, or compressor.toml.

A table of a command's name holds that command's options, written as on the command line without the
dashes; an option above the tables holds for every command that has it. The command line wins over a
command's table, the table over what stands above, that over the default:

    [tool.compressor]
    year = 2023

    [tool.compressor.sweep]
    data = "recordings"      # from the folder of this file
    prune = [0.5, 0.6, 0.7]

`[tool.compressor.gate]` is the gate's own and read by it (`compressor.gate.config`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compressor.errors import ConfigError, UnknownNameError

__all__ = ["Settings", "Value", "commands_of", "default_map", "read_settings", "root"]

PROJECT_FILE, OWN_FILE = "pyproject.toml", "compressor.toml"
MAX_BYTES = 1 << 20
OWN_TABLES = frozenset({"gate"})  # read by the command itself
# Not settings; and what lets code run is said on the command line, not by a file that lies there.
NEVER = frozenset(
    {"help", "quiet", "verbose", "version", "install_completion", "show_completion"}
    | {"own_network", "allow_code", "live"}
)
PLACES = frozenset({"data"})  # options that name a file or a folder, or something else


@dataclass(frozen=True)
class Value:
    """One setting.

    Attributes:
        value: as the command line would give it.
        source: the file and the table it stands in.
    """

    value: Any
    source: str


@dataclass(frozen=True)
class Settings:
    """What a settings file holds.

    Attributes:
        file: the file; None where there is none.
        table: its table, unchecked.
        prefix: what stands before the name of a command's table.
    """

    file: Path | None = None
    table: Mapping[str, Any] = field(default_factory=dict)
    prefix: str = "tool.compressor"

    def of(self, path: tuple[str, ...], command: Any) -> dict[str, Value]:
        """The settings of one command, checked: parameter name to value.

        Args:
            path: names of the command, as ("zoo", "list").
            command: it, with its parameters.

        Raises:
            UnknownNameError: a key that is no option of the command; names the closest.
            ConfigError: a value of a kind that no option takes.
        """
        if path[0] in OWN_TABLES:
            return {}
        known = {key(param): param for param in options_of(command)}
        common = {
            name: value
            for name, value in self.table.items()
            if name in known
            and not isinstance(value, dict)
            # above all commands a model is a network; some commands call a file so
            and not (name == "model" and is_path(known[name]))
        }
        found = {name: self._value(name, known[name], value) for name, value in common.items()}
        table: Any = self.table
        for name in path:
            table = table.get(name, {}) if isinstance(table, dict) else {}
        if not isinstance(table, dict):
            raise ConfigError(f"{self.file}: {self._name(path)} = {table!r} must be a table")
        for name, value in table.items():
            if name not in known:
                raise UnknownNameError(f"{self.file}: key of [{self._name(path)}]", name, known)
            found[name] = self._value(name, known[name], value, path)
        return {known[name].name: value for name, value in found.items()}

    def check_top(self, commands: Mapping[str, Any]) -> None:
        """Checks the names above the tables, and those of the tables.

        Args:
            commands: every command by its full name, as `commands_of` gives them.

        Raises:
            UnknownNameError: a name that is no command and no option of any; names the closest.
        """
        options = {key(param) for command in commands.values() for param in options_of(command)}
        names = {name.split()[0] for name in commands}
        for name, value in self.table.items():
            if name not in (names if isinstance(value, dict) else options):
                kind = "table" if isinstance(value, dict) else "key"
                known = names if isinstance(value, dict) else options
                where = f"{self.file}: {kind} of [{self.prefix}]"
                raise UnknownNameError(where, name, sorted(known))

    def _name(self, path: tuple[str, ...]) -> str:
        return ".".join(part for part in (self.prefix, *path) if part)

    def _value(self, name: str, param: Any, value: Any, path: tuple[str, ...] = ()) -> Value:
        assert self.file is not None
        where = f"{self._name(path)}.{name}".lstrip(".")
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, (dict, list)) for part in parts) or not parts:
            raise ConfigError(
                f"{self.file}: {where} = {value!r} must be a text, a number or a list"
            )
        flag = getattr(param, "is_flag", False)
        if flag != isinstance(value, bool):
            allowed = "true or false" if flag else "a text or a number, not true or false"
            raise ConfigError(f"{self.file}: {where} = {value!r} must be {allowed}")
        source = f"{self.file.name} [{self._name(path)}]"
        if flag:
            return Value(value, source)
        texts = [self._placed(name, param, str(part)) for part in parts]
        many = param.multiple or param.nargs == -1
        return Value(texts if many else ",".join(texts), source)

    def _placed(self, name: str, param: Any, text: str) -> str:
        """A path as seen from here: in the file it is relative to the file's folder."""
        assert self.file is not None
        there = self.file.parent / Path(text).expanduser()
        if name in PLACES:
            return str(there) if there.exists() else text
        return str(there) if is_path(param) else text


def options_of(command: Any) -> list[Any]:
    """What of a command can be set: its options, not its arguments."""
    return [
        param
        for param in command.params
        if param.name not in NEVER and param.param_type_name == "option"
    ]


def key(param: Any) -> str:
    """How an option is written in the file: the long option without its dashes."""
    return str(max(param.opts, key=len)).lstrip("-")


def is_path(param: Any) -> bool:
    """Whether a parameter is a path, or a list of paths."""
    return "Path" in str(param.type_descriptor.annotation)


def read_settings(start: Path | None = None) -> Settings:
    """The settings nearest to a folder, upwards to the top of the repository.

    In one folder compressor.toml wins over pyproject.toml; a pyproject.toml without
    `[tool.compressor]` does not count.

    Raises:
        ConfigError: a file that is not TOML.
    """
    import tomllib

    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        for name in (OWN_FILE, PROJECT_FILE):
            path = folder / name
            if not path.is_file() or path.stat().st_size > MAX_BYTES:
                continue
            try:
                text = path.read_text(encoding="utf-8")
                content: Any = tomllib.loads(text)
            except (OSError, ValueError) as error:
                if name == PROJECT_FILE and "tool.compressor" not in _text(path):
                    continue  # somebody else's broken file is not ours to judge
                raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
            if name == PROJECT_FILE:
                content = content.get("tool", {})
                content = content.get("compressor") if isinstance(content, dict) else None
            if isinstance(content, dict) and content:
                return Settings(path, content, "tool.compressor" if name == PROJECT_FILE else "")
        if (folder / ".git").exists():
            break
    return Settings()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def commands_of(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command below a group, with its names: (("zoo", "list"), command)."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, (*before, name))
        else:
            yield (*before, name), command


def root() -> Any:
    """The root of all commands, as the parser sees it."""
    import typer

    from compressor.cli.main import app

    return typer.main.get_command(app)


def default_map(settings: Settings, group: Any, command: str) -> dict[str, Any]:
    """What the parser takes in place of defaults, for the command that is run.

    Args:
        settings: of the file.
        group: the root of all commands.
        command: name of the command or group that was called.

    Returns:
        Values by parameter, below the command's names.
    """
    found: dict[str, Any] = {}
    for path, each in commands_of(group):
        if path[0] != command:
            continue
        inner = found
        for name in path:
            inner = inner.setdefault(name, {})
        inner.update({name: value.value for name, value in settings.of(path, each).items()})
    return found
