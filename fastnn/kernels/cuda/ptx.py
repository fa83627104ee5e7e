"""Instructions that Python has no words for: tensor cores, copies past the registers, and what
blocks of a grid wait for each other by.

All are of compute capability 8.0 and higher, and are defined in NVIDIA's PTX ISA. A *word* is 32
bits, held as an int32: a float32 rounded to tf32, or two bfloat16, the first of them in the lower
half. A *fragment* is the part of a small matrix that one thread of a warp holds; which part, the
ISA says of each instruction. What names a warp in its docstring, all threads of the warp call
together.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cuda.memory import WIDE
from fastnn.kernels.cuda.target import SIMULATED

WORD = 4
"""Bytes of a word."""


def _tf32_of(words: Any) -> Any:
    return words.view(np.float32)


def _bf16_of(words: Any) -> Any:
    """The halves of the last axis's words, side by side."""
    halves = np.stack([words << 16, words & -65536], axis=-1)
    return halves.view(np.float32).reshape(*words.shape[:-1], -1)


def _simulated_multiply(numbers_of: Any) -> Any:
    from fastnn.kernels.cuda.simulator import exchange

    def multiply(a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
        every, lane = exchange((a0, a1, a2, a3, b0, b1))
        words = np.array(every, np.int32).T.reshape(6, 8, 4)
        p0, p1, p2, p3, q0, q1 = (numbers_of(part).astype(np.float64) for part in words)
        group, place = divmod(lane, 4)
        rows = np.stack([np.append(p0[group], p2[group]), np.append(p1[group], p3[group])])
        columns = np.hstack([q0, q1])[2 * place : 2 * place + 2]
        sums = np.array([[c0, c1], [c2, c3]], np.float64) + rows @ columns.T
        return tuple(sums.astype(np.float32).reshape(4))

    return multiply


def _simulated_load_matrices(shared: Any, index: int) -> tuple[Any, ...]:
    from fastnn.kernels.cuda.simulator import exchange

    every, lane = exchange(index)
    return tuple(shared[every[8 * matrix + lane // 4] + lane % 4] for matrix in range(4))


def _simulated_load_transposed(shared: Any, index: int) -> tuple[Any, ...]:
    from fastnn.kernels.cuda.simulator import exchange

    every, lane = exchange(index)
    column, first = divmod(lane, 4)

    def half(line: int) -> Any:
        return shared[every[line] : every[line] + WIDE // WORD].view(np.int16)[column]

    return tuple(
        np.array([half(8 * matrix + 2 * first + each) for each in range(2)]).view(np.int32)[0]
        for matrix in range(4)
    )


def _simulated_round_tf32(word: Any) -> Any:
    value = word.view(np.uint32)
    if not np.isfinite(word.view(np.float32)):
        return word
    return ((value + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.int32)


def _bf16_bits(value: Any) -> int:
    bits = int(np.float32(value).view(np.uint32))
    return 0x7FFF if np.isnan(value) else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def _simulated_pack_bf16(first: Any, second: Any) -> Any:
    return np.uint32(_bf16_bits(second) << 16 | _bf16_bits(first)).view(np.int32)


def _copies() -> list[Any]:
    """The copies of the calling thread that are under way, group by group; the last is open."""
    from fastnn.kernels.cuda.simulator import getcurrent

    thread: Any = getcurrent()
    copies: list[Any] = thread.__dict__.setdefault("copies", [[]])
    return copies


def _simulated_copy_async(words: int) -> Any:
    def copy(target: Any, to: int, source: Any, index: int, inside: bool) -> None:
        part = source[index : index + words].view(np.int32) if inside else np.zeros(words, np.int32)
        assert to + words <= target.size, "a copy must lie within the arrays"
        assert part.size == words, "a copy must lie within the arrays"
        assert not inside or part.ctypes.data % (WORD * words) == 0, "a copy must be aligned"
        assert to % words == 0, "a copy must be aligned"
        _copies()[-1].append((target, to, part))

    return copy


def _simulated_commit() -> None:
    _copies().append([])


def _simulated_wait(groups: int) -> Any:
    def wait() -> None:
        copies = _copies()
        while len(copies) > groups + 1:
            for target, to, part in copies.pop(0):
                target[to : to + part.size] = part

    return wait


def _simulated_arrive(array: Any, index: int) -> Any:
    before = array[index]
    array[index] += 1
    return before


def _simulated_look(array: Any, index: int) -> Any:
    from fastnn.kernels.cuda.simulator import rest

    rest()
    return array[index]


def _simulated_tell(array: Any, index: int, value: Any) -> None:
    array[index] = value


if SIMULATED:
    from fastnn.kernels.cuda.simulator import any_of_block

    arrive, look, tell = _simulated_arrive, _simulated_look, _simulated_tell
    multiply_tf32, multiply_bf16 = map(_simulated_multiply, (_tf32_of, _bf16_of))
    load_matrices, load_transposed = _simulated_load_matrices, _simulated_load_transposed
    round_tf32, pack_bf16 = _simulated_round_tf32, _simulated_pack_bf16
    copy_async, commit_copies, wait_for_copies = (
        _simulated_copy_async,
        _simulated_commit,
        _simulated_wait,
    )
else:
    from llvmlite import ir
    from numba.cuda.extending import intrinsic

    VOID, INT32, INT64, FLOAT32 = ir.VoidType(), ir.IntType(32), ir.IntType(64), ir.FloatType()
    SHARED = 3
    """Number of the address space of shared memory."""

    def _call(builder, result, text, constraints, arguments, does_more=False, of_warp=False):
        """Issue an instruction.

        If it `does_more` than its results say, it is neither dropped nor moved past another such;
        if it is one `of_warp`, its threads are not parted before it.
        """
        of_arguments = [argument.type for argument in arguments]
        function = ir.FunctionType(result, of_arguments)
        assembly = ir.InlineAsm(function, text, constraints, side_effect=does_more or of_warp)
        return builder.call(assembly, arguments, attrs=("convergent",) if of_warp else ())

    def _as_tuple(context, builder, result, struct):
        parts = [builder.extract_value(struct, i) for i in range(result.count)]
        return context.make_tuple(builder, result, parts)

    def _pointer(context, builder, array_type, array, index):
        return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])

    def _shared_address(builder, pointer):
        """The address of what a pointer points to, within shared memory."""
        into = ir.PointerType(pointer.type.pointee, SHARED)
        return builder.ptrtoint(builder.addrspacecast(pointer, into), INT32)

    def _multiply(shape, kind):
        """The intrinsic of a product of two small matrices."""
        text = (
            f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 "
            "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
        )
        constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
        result = types.UniTuple(types.float32, 4)

        def codegen(context, builder, signature, arguments):
            struct = ir.LiteralStructType([FLOAT32] * 4)
            found = _call(builder, struct, text, constraints, arguments, of_warp=True)
            return _as_tuple(context, builder, result, found)

        return result(*[types.int32] * 6, *[types.float32] * 4), codegen

    @intrinsic
    def multiply_tf32(typing_context, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
        """A warp's C + A·B; A (16, 8) and B (8, 8) tf32, C (16, 8) float32: mma.m16n8k8."""
        return _multiply("m16n8k8", "tf32")

    @intrinsic
    def multiply_bf16(typing_context, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
        """A warp's C + A·B; A (16, 16) and B (16, 8) bfloat16, C (16, 8) float32: mma.m16n8k16."""
        return _multiply("m16n8k16", "bf16")

    def _load(shared, transposed):
        """The intrinsic of a load of four matrices."""
        form = ".trans" if transposed else ""
        text = f"ldmatrix.sync.aligned.m8n8.x4{form}.shared.b16 {{$0,$1,$2,$3}}, [$4];"
        result = types.UniTuple(types.int32, 4)

        def codegen(context, builder, signature, arguments):
            pointer = _pointer(context, builder, signature.args[0], *arguments)
            struct = ir.LiteralStructType([INT32] * 4)
            at = _shared_address(builder, pointer)
            found = _call(builder, struct, text, "=r,=r,=r,=r,r,~{memory}", [at], of_warp=True)
            return _as_tuple(context, builder, result, found)

        return result(shared, types.int64), codegen

    @intrinsic
    def load_matrices(typing_context, shared, index):
        """A warp's fragments of four matrices of 8 lines, each 4 words: ldmatrix.

        Lane 8m + i tells the index in shared memory of line i of matrix m; lane l gets word l % 4
        of line l // 4 of each matrix.
        """
        return _load(shared, False)

    @intrinsic
    def load_transposed(typing_context, shared, index):
        """The same of matrices that lie transposed, of halves of words: ldmatrix.trans.

        Lane l gets of each matrix the halves with number l // 4 of lines 2 (l % 4) and the next.
        """
        return _load(shared, True)

    @intrinsic
    def round_tf32(typing_context, word):
        """The tf32 that is nearest to a float32, both as words; of two the larger: cvt.rna."""

        def codegen(context, builder, signature, arguments):
            return _call(builder, INT32, "cvt.rna.tf32.f32 $0, $1;", "=r,r", arguments)

        return types.int32(types.int32), codegen

    @intrinsic
    def pack_bf16(typing_context, first, second):
        """The bfloat16 nearest to two float32, as a word; of two equally near the even: cvt.rn."""

        def codegen(context, builder, signature, arguments):
            first, second = arguments
            return _call(builder, INT32, "cvt.rn.bf16x2.f32 $0, $1, $2;", "=r,f,f", [second, first])

        return types.int32(types.float32, types.float32), codegen

    @cache
    def copy_async(words: int) -> Any:
        """The function ``copy(target, to, source, index, inside)``: cp.async of 1 or 4 words.

        It begins to copy elements of a flat array in global memory to words of shared memory, or
        where `inside` is not set zeros: then nothing is read, wherever `index` may lie.
        """
        size = WORD * words
        kind = "cg" if size == WIDE else "ca"  # what comes in wide pieces does not pass the L1
        text = f"cp.async.{kind}.shared.global [$0], [$1], {size}, $2;"

        @intrinsic
        def copy(typing_context, target, to, source, index, inside):
            def codegen(context, builder, signature, arguments):
                target, to, source, index, inside = arguments
                into = _pointer(context, builder, signature.args[0], target, to)
                origin = _pointer(context, builder, signature.args[2], source, index)
                count = builder.select(inside, INT32(size), INT32(0))
                operands = [_shared_address(builder, into), builder.ptrtoint(origin, INT64), count]
                _call(builder, VOID, text, "r,l,r,~{memory}", operands, does_more=True)
                return context.get_dummy_value()

            return types.void(target, types.int64, source, types.int64, types.boolean), codegen

        return copy

    @intrinsic
    def any_of_block(typing_context, predicate):
        """Whether it is set in any thread of the block, which is a barrier: bar.red.or."""
        text = (
            "{ .reg .pred p, q; setp.ne.u32 p, $1, 0; bar.red.or.pred q, 0, p; "
            "selp.u32 $0, 1, 0, q; }"
        )

        def codegen(context, builder, signature, arguments):
            word = builder.zext(arguments[0], INT32)
            found = _call(builder, INT32, text, "=r,r,~{memory}", [word], of_warp=True)
            return builder.trunc(found, ir.IntType(1))

        return types.boolean(types.boolean), codegen

    def _statement(text):
        """The intrinsic of an instruction without operands."""

        def codegen(context, builder, signature, arguments):
            _call(builder, VOID, text, "~{memory}", [], does_more=True)
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic
    def commit_copies(typing_context):
        """Make a group of the copies that the thread began since the last: cp.async.commit."""
        return _statement("cp.async.commit_group;")

    @cache
    def wait_for_copies(groups: int) -> Any:
        """The function that waits for all of the thread's groups but the last few: cp.async.wait.

        The copies can then be seen by the thread, and after a barrier by the block.
        """

        @intrinsic
        def wait(typing_context):
            return _statement(f"cp.async.wait_group {groups};")

        return wait

    def _of_element(result, text, constraints):
        """The code of an instruction on an element of an array in global memory."""

        def codegen(context, builder, signature, arguments):
            array, index, *values = arguments
            pointer = _pointer(context, builder, signature.args[0], array, index)
            operands = [builder.ptrtoint(pointer, INT64), *values]
            found = _call(builder, result, text, constraints, operands, does_more=True)
            return context.get_dummy_value() if result is VOID else found

        return codegen

    @intrinsic
    def arrive(typing_context, array, index):
        """Count an element up by 1; what it was before: atom.acq_rel.

        What the thread, and those it has met at a barrier, wrote before can be seen by every thread
        that counts the element up later, and by those that this one then meets at a barrier.
        """
        text = "atom.acq_rel.gpu.global.add.u64 $0, [$1], 1;"
        return types.int64(array, types.int64), _of_element(INT64, text, "=l,l,~{memory}")

    @intrinsic
    def look(typing_context, array, index):
        """An element as it is now: ld.acquire. What was written before it was told can be seen."""
        text = "ld.acquire.gpu.global.u64 $0, [$1];"
        return types.int64(array, types.int64), _of_element(INT64, text, "=l,l,~{memory}")

    @intrinsic
    def tell(typing_context, array, index, value):
        """Write an element for others to `look` at: st.release."""
        text = "st.release.gpu.global.u64 [$0], $1;"
        code = _of_element(VOID, text, "l,l,~{memory}")
        return types.void(array, types.int64, types.int64), code
