"""What a cubin's machine code does, counted out of its disassembly by ``nvdisasm``."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

COUNTED = {
    "ldg_128": r"LDG\.\S*128\b",
    "stg_128": r"STG\S*\.128\b",
    "ldgsts_128": r"LDGSTS\S*\.128\b",
    "lds_128": r"LDS\S*\.128\b",
    "ldsm": r"LDSM\b",
    "local": r"(?:LDL|STL)\b",
    "ffma": r"FFMA\b",
    "dfma": r"DFMA\b",
    "mma": r"(?:HMMA|HGMMA|DMMA)\b",
    "constant": r"LDG\.\S*CONSTANT\b",
    "strong": r"ATOMG\.\S*STRONG\.GPU\b",
}
"""Instructions by name: 16-byte loads and stores of global memory, copies from there to shared
memory, loads from that, and of matrices; any use of local memory; fused multiply-adds; tensor
cores; loads that need not see what others write meanwhile; atomics that order memory for all
processors."""

_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)", re.M)


def disassembler() -> str:
    """The path of nvdisasm.

    Raises
    ------
    FileNotFoundError
        If it is neither among the installed packages nor on the path.
    """
    from cuda import pathfinder

    found = pathfinder.find_nvidia_binary_utility("nvdisasm") or shutil.which("nvdisasm")
    if found is None:
        raise FileNotFoundError('nvdisasm is missing: pip install "fastnn[cuda,cuda-test]"')
    return str(found)


def instructions(cubin: bytes) -> list[str]:
    """The opcodes of a cubin with their modifiers, such as ``LDG.E.128``, in order."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [disassembler(), "-c", "-ndf", str(path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    return opcodes_of(done.stdout)


def opcodes_of(disassembly: str) -> list[str]:
    """The opcodes in what nvdisasm prints."""
    return _INSTRUCTION.findall(disassembly)


def counts(opcodes: list[str]) -> dict[str, int]:
    """How often each of `COUNTED` occurs, and how many instructions there are."""
    found = {
        name: sum(re.match(pattern, opcode) is not None for opcode in opcodes)
        for name, pattern in COUNTED.items()
    }
    return found | {"instructions": len(opcodes)}
