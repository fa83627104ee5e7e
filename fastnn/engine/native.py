"""Object files to callable addresses, with llvmlite alone: Numba is not needed to run."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm

_linked: list[Any] = []
"""What keeps loaded code in memory: it stays as long as the process."""


def _linker() -> Any:
    if not _linked:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine()
        _linked.append(llvm.create_lljit_compiler(machine))
    return _linked[0]


def load(object_file: bytes, symbol: str) -> int:
    """Link an object file into this process; the address of `symbol`.

    Each file is linked as a library of its own: Numba's names for inner functions are unique in
    the process that compiled them, not among files from several processes. Callers hold a lock.
    """
    linker = _linker()
    library = llvm.JITLibraryBuilder()
    library.add_object_img(object_file)
    library.add_current_process()
    library.export_symbol(symbol)
    tracker = library.link(linker, f"fastnn-{len(_linked)}")
    _linked.append(tracker)
    address: int = tracker[symbol]
    return address
