"""How Numba lowers kernels: loops as wide as the registers.

On CPUs with AVX-512 LLVM by itself vectorises loops in 256 bits, for the first of them slowed down
where wider registers were in use. Measured on Sapphire Rapids, in 512 bits gelu takes 0.76 times as
long, softplus 0.61, eru 0.61, tanh 0.72. A function says so by an attribute; to say it of the
target would need settings of Numba's that are the whole process's.
"""

from __future__ import annotations

from typing import Any

from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import BaseNativeLowering, NativeLowering


def compiler_of(vector_bytes: int) -> type[CompilerBase]:
    """Numba's compiler, for functions whose loops are vectorised in so many bytes."""
    attribute = f'"prefer-vector-width"="{8 * vector_bytes}"'

    class WideLower(Lower):
        def setup_function(self, fndesc: Any) -> None:
            super().setup_function(fndesc)
            # llvmlite checks names against LLVM's own, which this, a target's, is not among.
            set.add(self.function.attributes, attribute)

    @register_pass(mutates_CFG=True, analysis_only=False)
    class WideLowering(BaseNativeLowering):
        _name = "fastnn_native_lowering"
        lowering_class = WideLower

    class Compiler(CompilerBase):
        def define_pipelines(self) -> list[Any]:
            passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
            passes.passes = [
                (WideLowering if each is NativeLowering else each, name)
                for each, name in passes.passes
            ]
            return [passes]

    return Compiler
