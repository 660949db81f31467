"""Reads broken files under watch: what they open, run, write, and what time and memory they take.

Started by `run.Fuzzer` as a process of its own: commands come in as lines of JSON, and a line of
JSON goes out for every mutation. torch is never imported here.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import runpy
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .corpus import CANARY, LABEL, read_corpus
from .mutate import mutate

CPU_SECONDS = 5.0
WALL_SECONDS = 60.0  # for what sleeps; the machine may be busy with other things
MEMORY = 1 << 30  # above the file
MESSAGE = 1_000  # characters of one clear line

SUFFIXES = {"own": ".pt", "state": ".pt", "torchscript": ".pt", "package": ".zip"}
SIDE = "weights.bin"  # beside every file: what ONNX may refer to

# what a reader has no business with; `open` for reading is judged by its path
FORBIDDEN = (
    *(
        "os.system",
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.startfile",
    ),
    *("os.kill", "os.putenv", "os.chmod", "os.chown", "os.rename", "os.link", "os.symlink"),
    *("os.truncate", "os.chdir", "os.setxattr", "os.utime"),
    *("subprocess.Popen", "socket.", "ctypes.dlopen", "ctypes.dlsym"),
    *("pickle.find_class", "shutil.", "urllib.", "ftplib.", "smtplib.", "webbrowser."),
)
MAKING = ("os.mkdir", "os.rmdir", "os.remove", "tempfile.mkdtemp", "tempfile.mkstemp")


class Stop(BaseException):
    """Ends a mutation from outside; no reader may catch it."""


class Guard:
    """An audit hook of the interpreter: sees every file opened, program run and text executed."""

    def __init__(self, case: Path, scratch: Path) -> None:
        """Takes the folder of the file under test, and the one for temporary files."""
        self.case = str(case)
        self.scratch = str(scratch)
        self.armed = False
        self.temporary = False  # whether temporary files are this format's way
        self.seen: list[str] = []
        code = [sys.prefix, sys.base_prefix, str(Path(__file__).resolve().parents[3])]
        self.code = tuple(f"{Path(path).resolve()}/" for path in code)
        sys.addaudithook(self.hook)

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        """Called by the interpreter."""
        if not self.armed:
            return
        if event == "open":
            problem = self._opened(*args[:3])
        elif event in MAKING:
            made = os.fsdecode(args[0])
            if event in {"os.remove", "os.rmdir"} and args[1] >= 0:  # beside an open folder
                made = str(Path(f"/proc/self/fd/{args[1]}").readlink() / made)
            problem = not (self.temporary and made.startswith(self.scratch))
        elif event == "exec":
            source = args[0].co_filename
            problem = not source.startswith((*self.code, "<frozen")) and not _importing()
        elif event == "marshal.loads":  # how the interpreter itself loads a module
            problem = not _importing()
        else:
            problem = event.startswith(FORBIDDEN) and not (
                self.temporary
                and event == "shutil.rmtree"
                and str(args[0]).startswith(self.scratch)
            )
        if problem:
            self.armed = False
            self.seen.append(f"{event} {str(args)[:200]}")
            raise Stop(self.seen[-1])

    def _opened(self, path: Any, mode: Any, flags: Any) -> bool:
        if isinstance(path, int):
            return False
        place = os.path.realpath(os.fsdecode(path))  # a relative name: of the working directory
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))
        if self.temporary and place.startswith(self.scratch):
            return False
        if writes:
            return True
        return not place.startswith((f"{self.case}/", *self.code, "/dev/null", "/proc/"))


def _importing() -> bool:
    """Whether a module is being loaded, from a folder that `open` has let through."""
    frame = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    with Path("/proc/self/status").open() as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def _file_reader(path: Path) -> bool:
    from compressor.audit.count import audit_inventory
    from compressor.audit.readers.files import read_file

    result = audit_inventory(read_file(path))
    json.dumps(result.to_dict())
    if result.macs is not None and result.macs < 0:
        raise AssertionError(f"{result.macs} MACs")
    if not 0 <= result.nonzero_params <= result.params:
        raise AssertionError(f"{result.nonzero_params} non-zero of {result.params} parameters")
    return True


def _gate(path: Path) -> bool:
    from compressor.gate.config import GateConfig
    from compressor.gate.run import gate

    record = gate([path], GateConfig(years=(2023,), rows=20))
    json.dumps(record)
    return bool(record["exit_code"] != 3)


def _meta(path: Path) -> bool:
    from compressor.audit.submission.forms import FORMS
    from compressor.audit.submission.meta import check_meta

    return not check_meta(path.read_bytes(), "m.yaml", LABEL, FORMS[2023])[1]


def _output(path: Path) -> bool:
    from compressor.audit.submission.forms import FORMS
    from compressor.audit.submission.outputs import check_output

    return not check_output(path.read_bytes(), "o.csv", FORMS[2023], rows=20)[1]


READERS: dict[str, Callable[[Path], bool]] = {"package": _gate, "meta": _meta, "output": _output}


class Worker:
    """Runs mutations one after the other."""

    def __init__(
        self, corpus: Path, scratch: Path, formats: list[str], seconds: float = CPU_SECONDS
    ) -> None:
        """Reads the corpus once with every reader, so that what they import is there."""
        self.seconds = seconds
        self.seeds = {name: read_corpus(corpus, name) for name in formats}
        self.case, self.home, temporary = (scratch / n for n in ("case", "home", "temporary"))
        for folder in (self.case, self.home, temporary):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self.temporary = temporary
        os.environ["TMPDIR"] = str(temporary)
        os.chdir(self.home)
        (self.case / SIDE).write_bytes(bytes(80))
        self.guard = Guard(self.case.resolve(), temporary.resolve())
        signal.signal(signal.SIGPROF, self._late)
        signal.signal(signal.SIGALRM, self._late)
        for self.watching in (False, True):  # first, what is read imports numpy and the like
            self.sound = 0
            for name, files in self.seeds.items():
                for key, data in files.items():
                    answer = self.run(name, data)
                    self.sound += 1
                    wanted = "refused" if key.startswith("bad-") else "read"
                    if answer["outcome"] != wanted:
                        raise SystemExit(f"{name}, file {key} as it was made: {answer}")
        largest = max(len(data) for files in self.seeds.values() for data in files.values())
        limit = _status("VmSize") + MEMORY + largest
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    @staticmethod
    def _late(*_: object) -> None:
        raise Stop("took too long")

    def run(self, name: str, data: bytes) -> dict[str, Any]:
        """Reads one broken file: outcome (read, refused, found), seconds and bytes of growth."""
        path = self.case / f"case{SUFFIXES.get(name, '.' + name)}"
        path.write_bytes(data)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status("VmRSS")
        self.guard.temporary = name == "package"
        what = self.said = ""
        outcome = "refused"
        caught: BaseException | None = None
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, self.seconds)
        signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
        try:
            self.guard.armed = self.watching
            outcome = "read" if READERS.get(name, _file_reader)(path) else "refused"
        except Stop as stop:
            what = f"stopped: {stop}"
        except BaseException as error:
            caught = error
        finally:
            self.guard.armed = False
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        seconds = time.process_time() - start
        if caught is not None:
            what = _judged(caught)
            self.said = str(caught)
        peak = _status("VmHWM")
        what = what or self._left(path, data)
        if self.guard.seen:
            what = what or f"stopped: {self.guard.seen}"
            self.guard.seen.clear()
        return {
            "outcome": "found" if what else outcome,
            "what": what,
            "said": self.said,
            "seconds": seconds,
            "peak": peak,
            "growth": max(0, peak - before),
        }

    def _left(self, path: Path, data: bytes) -> str:
        """What was left behind, here or beside the file."""
        found = [item.name for folder in (self.home, self.temporary) for item in folder.iterdir()]
        if found:
            for folder in (self.home, self.temporary):
                shutil.rmtree(folder)
                folder.mkdir()
            os.chdir(self.home)
            return f"{'executed' if CANARY in found else 'written'}: {found[:5]}"
        if {item.name for item in self.case.iterdir()} != {path.name, SIDE}:
            return "written beside the file"
        if path.read_bytes() != data:
            return "the file was changed"
        path.unlink()
        return "torch was imported" if "torch" in sys.modules else ""

    def serve(self) -> None:
        """Commands from standard input until it ends."""
        say({"ready": True, "sound": self.sound})
        for line in sys.stdin:
            order = json.loads(line)
            name = order["format"]
            if "data" in order:
                say(self.run(name, base64.b64decode(order["data"])) | {"index": 0})
                continue
            for index in range(order["start"], order["stop"]):
                try:
                    data = mutate(name, self.seeds[name], order["seed"], index)
                except Exception:
                    say({"broken": f"{name} {index}: {traceback.format_exc()}"})
                    return
                say(self.run(name, data) | {"index": index})


def _judged(error: BaseException) -> str:
    """An error of ours in one clear line is as it should be: ""; the rest is a finding."""
    from compressor.errors import CompressorError

    if not isinstance(error, CompressorError):
        frames = traceback.extract_tb(error.__traceback__)[-4:]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
        return f"{type(error).__name__}: {str(error)[:200]} at {where}"
    text = str(error)
    if not text.isprintable():
        return f"a message that is not printable: {text[:200]!r}"
    if len(text) > MESSAGE:
        return f"a message of {len(text)} characters: {text[:200]}"
    if error.exit_code not in {2, 3}:
        return f"exit code {error.exit_code}"
    return ""


def say(answer: dict[str, Any]) -> None:
    """One line to the parent."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    chosen = sys.argv[3].split(",")
    seconds = CPU_SECONDS
    if len(sys.argv) > 4:  # a test of the watch brings its own reader
        planted = runpy.run_path(sys.argv[4])
        READERS.update(dict.fromkeys(chosen, planted["read"]))
        seconds = planted["SECONDS"]
    Worker(Path(sys.argv[1]), Path(sys.argv[2]), chosen, seconds).serve()
