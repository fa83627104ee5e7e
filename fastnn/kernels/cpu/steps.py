"""The executor's loop: many whole steps of a program in one call, and the barrier between ops."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastnn.kernels import state as s
from fastnn.kernels.cpu.memory import INT64, call_op, load_int64, view
from fastnn.kernels.cpu.settings import inlined, kernel

SPINS = 200
"""Looks at the barrier before a waiting thread gives its core away.

Measured beside a busy neighbour: 2 to 8 µs a barrier with a short spin, 27 to 31 with a long one.
"""


@intrinsic
def atomic_add(typing_context, address, value):
    """Add to an integer in memory as one step; what it was before."""

    def codegen(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], INT64.as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.intp, types.int64), codegen


@intrinsic
def atomic_load(typing_context, address):
    """Read an integer; nothing after is read before it."""

    def codegen(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], INT64.as_pointer())
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(types.intp), codegen


@intrinsic
def atomic_store(typing_context, address, value):
    """Write an integer; all written before is seen by whoever reads it."""

    def codegen(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], INT64.as_pointer())
        builder.store_atomic(arguments[1], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), codegen


@intrinsic
def give_core_away(typing_context, function):
    """Call the system's yield (``sched_yield`` or its like) through its address."""

    def codegen(context, builder, signature, arguments):
        function_type = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(arguments[0], function_type.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def pause(typing_context):
    """Tell the core that this is a waiting loop, where it has a word for it."""

    def codegen(context, builder, signature, arguments):
        if "x86" in builder.module.triple:
            hint = ir.FunctionType(ir.VoidType(), [])
            builder.call(
                cgutils.get_or_insert_function(builder.module, hint, "llvm.x86.sse2.pause"), []
            )
        return context.get_dummy_value()

    return types.void(), codegen


@inlined
def barrier(shared, team):
    """Wait until all threads of the team have come here; each has then seen what all wrote."""
    arrived, generation = shared + 8 * s.SHARED_ARRIVED, shared + 8 * s.SHARED_GENERATION
    current = atomic_load(generation)
    if atomic_add(arrived, 1) == team - 1:
        atomic_store(arrived, 0)
        atomic_store(generation, current + 1)
    else:
        looks = 0
        while atomic_load(generation) == current:
            looks += 1
            if looks < SPINS:
                pause()
            else:
                give_core_away(load_int64(shared + 8 * s.SHARED_YIELD))


def run_steps() -> Any:
    """The loop ``run_steps(code, ops, state, rank, team)`` over addresses.

    It goes on from the state's position until the epoch is done, the budget is spent or an op has
    raised the flag, and says in STATUS which. Every thread of a team runs it on its own copy of
    the state; all come to the same decisions, for all see the same budget and the same flag.

    A long op is done in pieces: piece p of thread r does what thread r + p·team would do in a team
    `pieces` times as large. No result depends on the size of the team, so none on the pieces.

    The flag holds the position of the op that raised it, plus one. A fast thread may raise it for
    the next op while a slow one still looks at this op's: only the matching position counts.

    Once a step's first op of the phase COMMIT has run, the step is run to its end: only between
    whole steps do parameters change. All that these ops raise is looked at after the last.
    """
    integers = view("int64", 1)

    @kernel
    def run_steps(code, ops, state_address, rank, team):
        state = integers(state_address, (s.SLOTS,))
        shared = state[s.SHARED]
        flag = shared + 8 * s.SHARED_FLAG
        position, piece = state[s.POSITION], state[s.PIECE]
        budget = state[s.BUDGET]
        while True:
            state[s.ROWS] = min(state[s.BATCH], state[s.TOTAL] - state[s.FIRST])
            while position < ops:
                row = code + position * (8 * s.CODE_WIDTH)
                function = load_int64(row + 8 * s.CODE_ADDRESS)
                cost = load_int64(row + 8 * s.CODE_COST)
                pieces = load_int64(row + 8 * s.CODE_PIECES)
                commits = load_int64(row + 8 * s.CODE_PHASE) == s.COMMIT
                state[s.POSITION] = ops - 1 if commits else position
                while piece < pieces:
                    call_op(
                        function,
                        row + 8 * s.CODE_OPERANDS,
                        state_address,
                        rank + piece * team,
                        pieces * team,
                    )
                    piece += 1
                    budget -= cost
                    if budget <= 0 and piece < pieces:
                        state[s.PIECE] = piece
                        state[s.STATUS], state[s.BUDGET] = s.PAUSED, budget
                        return
                if team > 1:
                    barrier(shared, team)
                position, piece = position + 1, 0
                if atomic_load(flag) == position:
                    state[s.STATUS], state[s.BUDGET] = s.DIVERGED, budget
                    return
                if budget <= 0 and position < ops and not commits:
                    state[s.POSITION], state[s.PIECE] = position, 0
                    state[s.STATUS], state[s.BUDGET] = s.PAUSED, budget
                    return
            position = 0
            state[s.POSITION], state[s.PIECE] = 0, 0
            state[s.STEP] += 1
            state[s.FIRST] += state[s.ROWS]
            if state[s.FIRST] >= state[s.TOTAL]:
                state[s.STATUS], state[s.BUDGET] = s.FINISHED, budget
                return
            if budget <= 0:
                state[s.STATUS], state[s.BUDGET] = s.PAUSED, budget
                return

    return run_steps
