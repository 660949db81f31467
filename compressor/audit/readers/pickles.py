"""A pickle interpreter that can build plain data and tensor records, and nothing else.

It looks up no module and calls no function of the file's choosing: the globals it knows are the
table of safecalls.py. The opcodes are those that `torch.save` writes (protocols 2 to 5). Their
number and the kinds of dictionary keys are bounded, so that time and memory are too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from compressor.audit.readers.safecalls import (
    CALLS,
    DTYPES,
    STORAGES,
    Global,
    StorageRef,
    flat_key,
    size_of,
)
from compressor.audit.shown import shown_reason
from compressor.errors import ModelFileError

__all__ = ["load_plain"]

MAX_OPCODES = 1_500_000
MAX_WORK = 5_000_000  # elements handed to calls: a list of the file can be handed over again


def load_plain(data: bytes, name: str) -> Any:
    """Interprets a pickle.

    Args:
        data: the pickle.
        name: what messages call the file.

    Returns:
        None, bool, int, float, str, bytes, list, tuple, dict, set of such, `TensorRef`s and
        `StorageRef`s. Containers may be shared or cyclic: walk them by schema, never blindly.

    Raises:
        ModelFileError: anything else stands in it; the message names it.
    """
    try:
        return _Machine(data, name).run()
    except ModelFileError:
        raise
    except (IndexError, struct.error, UnicodeDecodeError, ValueError, TypeError, KeyError) as error:
        raise ModelFileError(
            f"{name}: a damaged pickle ({type(error).__name__}: {shown_reason(error)})"
        ) from error
    except (MemoryError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"{name}: a pickle beyond all bounds") from error


class _Machine:
    """The stack machine; one method an opcode would be slower and no clearer."""

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.work = 0

    def refuse(self, what: str) -> ModelFileError:
        return ModelFileError(f"{self.name}: {what}: refused, nothing was executed")

    def take(self, count: int) -> bytes:
        end = self.at + count
        if count < 0 or end > len(self.data):
            raise ValueError(f"ends inside an element at byte {self.at}")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form)))
        return int(value)

    def line(self) -> str:
        end = self.data.index(b"\n", self.at)
        if end - self.at > 512:
            raise ValueError("a name of more than 512 bytes")
        text = self.data[self.at : end].decode("utf-8")
        self.at = end + 1
        return text

    def pop_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def pop(self) -> Any:
        floor = self.marks[-1] if self.marks else 0
        if len(self.stack) <= floor:
            raise ValueError("stack underflow")
        return self.stack.pop()

    def run(self) -> Any:
        push = self.stack.append
        for _ in range(MAX_OPCODES):
            code = self.take(1)
            simple = _CONSTANTS.get(code)
            if simple is not None:
                push(simple())
            elif code == b"h":
                push(self.memo[self.number("<B")])
            elif code == b"j":
                push(self.memo[self.number("<I")])
            elif code == b"q":
                self.memo[self.number("<B")] = self.stack[-1]
            elif code == b"r":
                self.memo[self.number("<I")] = self.stack[-1]
            elif code == b"\x94":
                self.memo[len(self.memo)] = self.stack[-1]
            elif code == b"K":
                push(self.number("<B"))
            elif code == b"M":
                push(self.number("<H"))
            elif code == b"J":
                push(self.number("<i"))
            elif code == b"X":
                push(self.take(self.number("<I")).decode("utf-8", "surrogatepass"))
            elif code == b"\x8c":
                push(self.take(self.number("<B")).decode("utf-8", "surrogatepass"))
            elif code == b"(":
                self.marks.append(len(self.stack))
            elif code in _TUPLES:
                count = _TUPLES[code]
                push(tuple(reversed([self.pop() for _ in range(count)])))
            elif code == b"t":
                push(tuple(self.pop_mark()))
            elif code == b"s":
                value, key = self.pop(), self.pop()
                self.items([key, value])
            elif code == b"u":
                self.items(self.pop_mark())
            elif code == b"a":
                item = self.pop()
                self.top(list).append(item)
            elif code == b"e":
                items = self.pop_mark()
                self.top(list).extend(items)
            elif code == b".":
                return self.pop()
            else:
                self.rare(code)
        raise self.refuse(f"a pickle of more than {MAX_OPCODES:,} opcodes")

    def rare(self, code: bytes) -> None:
        """The opcodes of which a file has few."""
        push = self.stack.append
        if code == b"\x80":
            if (version := self.number("<B")) > 5:
                raise self.refuse(f"pickle protocol {version}")
        elif code == b"\x95":
            self.take(8)  # frame length: no meaning without a stream
        elif code == b"G":
            push(struct.unpack(">d", self.take(8))[0])
        elif code == b"\x8a":
            push(int.from_bytes(self.take(self.number("<B")), "little", signed=True))
        elif code == b"C":
            push(self.take(self.number("<B")))
        elif code == b"B":
            push(self.take(self.number("<I")))
        elif code == b"\x8d":
            push(self.take(self.number("<Q")).decode("utf-8", "surrogatepass"))
        elif code == b"\x90":
            items = self.pop_mark()
            self.top(set).update(map(flat_key, items))
        elif code == b"c":
            push(self.find(f"{self.line()}.{self.line()}"))
        elif code == b"\x93":
            local, module = self.pop(), self.pop()
            push(self.find(f"{module}.{local}"))
        elif code == b"Q":
            push(self.storage(self.pop()))
        elif code == b"R":
            args, function = self.pop(), self.pop()
            push(self.call(function, args))
        elif code == b"b":
            self.pop()  # attributes: of an OrderedDict (`_metadata`), which need none here
            self.top(dict)
        elif code == b"0":
            self.pop()
        elif code in b"\x81\x92io":
            raise self.refuse("a pickle that makes objects")
        else:
            raise self.refuse(f"pickle opcode {code!r} at byte {self.at - 1}")

    def top(self, kind: type) -> Any:
        floor = self.marks[-1] if self.marks else 0
        if len(self.stack) <= floor or type(self.stack[-1]) is not kind:
            raise self.refuse(f"a pickle that changes something other than a {kind.__name__}")
        return self.stack[-1]

    def items(self, flat: list[Any]) -> None:
        table = self.top(dict)
        if len(flat) % 2:
            raise ValueError("a key without a value")
        for index in range(0, len(flat), 2):
            table[flat_key(flat[index])] = flat[index + 1]

    def find(self, name: str) -> Any:
        name = name.removeprefix("__builtin__.").removeprefix("builtins.")
        if name in CALLS or name in STORAGES or name in DTYPES:
            return Global(name)
        shown = name if len(name) <= 80 and name.isprintable() else "..."
        if b"torch.nn.modules" in self.data:
            raise ModelFileError(
                f"{self.name}: holds a pickled module (it refers to {shown}), which would run code "
                "when loaded: refused, nothing was executed; save torch.save(model.state_dict(), "
                "...) or let compressor write the file"
            )
        raise self.refuse(f"the pickle refers to {shown!r}, which is not on the list of safe names")

    def storage(self, pid: Any) -> StorageRef:
        """A persistent id: ("storage", class, key, location, elements)."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            raise self.refuse("an unknown kind of persistent id")
        _, kind, key, _, numel = pid
        if not isinstance(kind, Global) or kind.name not in STORAGES:
            raise self.refuse("a storage of unknown type")
        if not isinstance(key, str) or not 0 < len(key) <= 64 or not key.isalnum():
            raise self.refuse("a storage with an odd key")
        return StorageRef(key, STORAGES[kind.name], size_of(numel))

    def call(self, function: Any, args: Any) -> Any:
        if not isinstance(function, Global) or function.name not in CALLS:
            raise self.refuse("a pickle that calls something that is no tensor rebuilder")
        if not isinstance(args, tuple):
            raise TypeError("arguments that are no tuple")
        self.work += sum(len(arg) for arg in args if isinstance(arg, (str, list, tuple)))
        if self.work > MAX_WORK:
            raise self.refuse("a pickle that copies without end")
        return CALLS[function.name](args)


_CONSTANTS: Mapping[bytes, Callable[[], Any]] = {
    b"N": lambda: None,
    b"\x88": lambda: True,
    b"\x89": lambda: False,
    b"}": dict,
    b"]": list,
    b")": tuple,
    b"\x8f": set,
}
_TUPLES: Mapping[bytes, int] = {b"\x85": 1, b"\x86": 2, b"\x87": 3}
