"""Metrics, a value for each row, and the sums that an epoch's figures are made of.

What adds to `sums`, the float64 vector of a run, is done by one block, or one for every 256
columns, in an order that follows from the shape alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types

from fastnn.kernels.cuda.flag import raise_flag
from fastnn.kernels.cuda.groups import sum_over
from fastnn.kernels.cuda.launch import Kernel, Launch, Lengths
from fastnn.kernels.cuda.memory import address, view
from fastnn.kernels.cuda.row_plans import BLOCK
from fastnn.kernels.cuda.rows import Rows, first_of_largest, over_rows
from fastnn.kernels.cuda.target import cuda, device

# A value for each row


def row_argmax(rows: Rows) -> Any:
    """The function ``row_argmax(place, share, x)``: the column of a row's largest element of x.

    The first where several are. NaN is passed over, but for one in the first column, which stays.
    """
    lowest, nothing, int32 = rows.real(-np.inf), np.int32(0), np.int32

    @device
    def step(so_far, x, _, offset, numbers):
        takes = x > so_far[0]
        return x if takes else so_far[0], int32(numbers[0] + offset) if takes else so_far[1]

    fold = rows.fold(step, [rows.type_name, "int32"], first_of_largest)

    @device
    def row_argmax(place, share, x):
        best = fold(place, share, share, (lowest, nothing), (place[3],))[1]
        first = x[place[0], 0] if place[2] > 0 else lowest
        return best if first == first else nothing

    return row_argmax


def row_count(rows: Rows, says: Any) -> Any:
    """``row_count(place, a, b, numbers)``: columns of which ``says(element, element, numbers)``."""
    nothing, int32 = np.int32(0), np.int32

    @device
    def step(so_far, a, b, offset, numbers):
        return (int32(so_far[0] + 1) if says(a, b, numbers) else so_far[0],)

    fold = rows.fold(step, ["int32"])

    @device
    def row_count(place, a, b, numbers):
        return fold(place, a, b, (nothing,), numbers)[0]

    return row_count


def categorical_accuracy(type_name: str) -> Kernel:
    """``hits`` = 1 where the largest of a row's z stands at its label, else 0."""

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        leads, argmax, one, zero = rows.leads, row_argmax(rows), rows.real(1), rows.real(0)

        @device
        def categorical_accuracy(hits, z, labels):
            place = place_of(z)
            row, share = place[0], keep(cuda.local.array(slots, item, alignment=16), z, place)
            best = argmax(place, share, z)
            if leads(place):
                is_number = z[row, best] == z[row, best]
                hits[row] = one if best == labels[row] and is_number else zero

        return categorical_accuracy

    return over_rows(type_name, make)


def categorical_accuracy_soft(type_name: str) -> Kernel:
    """``hits`` = 1 where a row's largest z and largest target stand in one column, else 0."""

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        leads, argmax, one, zero = rows.leads, row_argmax(rows), rows.real(1), rows.real(0)

        @device
        def categorical_accuracy_soft(hits, z, targets):
            place = place_of(z)
            row = place[0]
            of_z = keep(cuda.local.array(slots, item, alignment=16), z, place)
            of_t = keep(cuda.local.array(slots, item, alignment=16), targets, place)
            best, true = argmax(place, of_z, z), argmax(place, of_t, targets)
            if leads(place):
                is_number = z[row, best] == z[row, best]
                hits[row] = one if best == true and is_number else zero

        return categorical_accuracy_soft

    return over_rows(type_name, make)


def binary_accuracy(type_name: str) -> Kernel:
    """``hits`` = the share of a row's columns where (z > threshold) equals (target > 0.5)."""

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        leads, real, half = rows.leads, rows.real, rows.real(0.5)

        @device
        def is_right(z, t, numbers):
            return z == z and (z > numbers[0]) == (t > half)

        count = row_count(rows, is_right)

        @device
        def binary_accuracy(hits, z, targets, threshold):
            place = place_of(z)
            of_z = keep(cuda.local.array(slots, item, alignment=16), z, place)
            of_t = keep(cuda.local.array(slots, item, alignment=16), targets, place)
            right = count(place, of_z, of_t, (real(threshold),))
            if leads(place):
                hits[place[0]] = real(right) / real(z.shape[1])

        return binary_accuracy

    return over_rows(type_name, make)


def top_k_accuracy(type_name: str) -> Kernel:
    """``hits`` = 1 where fewer than k of a row's z are above that of its largest target, else 0."""

    def make(rows: Rows) -> Any:
        place_of, keep, slots, item = rows.place, rows.keep, rows.slots, rows.item
        leads, argmax, one, zero = rows.leads, row_argmax(rows), rows.real(1), rows.real(0)

        @device
        def is_above(z, _, numbers):
            return z > numbers[0]

        count = row_count(rows, is_above)

        @device
        def top_k_accuracy(hits, z, targets, k):
            place = place_of(z)
            of_z = keep(cuda.local.array(slots, item, alignment=16), z, place)
            of_t = keep(cuda.local.array(slots, item, alignment=16), targets, place)
            true = argmax(place, of_t, targets)
            own = z[place[0], true] if place[2] > 0 else zero
            above = count(place, of_z, of_z, (own,))
            if leads(place):
                hits[place[0]] = one if above < k and own == own else zero

        return top_k_accuracy

    return over_rows(type_name, make)


# Sums over all rows


def by_blocks(body: Any, columns: str = "") -> Kernel:
    """A kernel of one block, or of one for every `BLOCK` columns of a dimension."""

    def launch(lengths: Lengths, aligned: bool) -> Launch:
        return Launch((-(-lengths[columns] // BLOCK) if columns else 1, 1), BLOCK)

    return Kernel(lambda: body, launch)


@device
def argmax_of(z, i):
    """The column of row i's largest element, the first where several are, found by one thread."""
    best, largest = 0, z[i, 0]
    for j in range(1, z.shape[1]):
        if z[i, j] > largest:
            best, largest = j, z[i, j]
    return best


@device
def column_of_thread(columns):
    """A thread's column, its place among this one's threads, their number, the block's columns.

    A thread that is left over has a place that is no less than that number.
    """
    begin = cuda.blockIdx.x * BLOCK
    here = min(columns - begin, BLOCK)
    return begin + cuda.threadIdx.x % here, cuda.threadIdx.x // here, BLOCK // here, here


@device
def tally(sums, places, values, count, held, total):
    """Add `count` values to the sums at their places, each place by one thread, in their order.

    A thread holds the sum that it added to last, whose place is `held` (−1: none yet); it returns
    the one that it then holds.
    """
    for i in range(count):
        place = places[i]
        if place % BLOCK == cuda.threadIdx.x:
            if place != held:
                if held >= 0:
                    sums[held] = total
                held, total = place, sums[place]
            total += values[i]
    return held, total


def count_positives(type_name: str) -> Kernel:
    """Add for each column j: rows right, said and true positive, to `sums` from ``at + 3j`` on.

    A target above ½ is positive; so is a z above `threshold`, or with `largest` a row's largest.
    """
    real, half = getattr(np, type_name), getattr(np, type_name)(0.5)

    @device
    def count_positives(sums, z, targets, at, threshold, largest):
        best = cuda.shared.array(BLOCK, types.int32)
        counts = cuda.shared.array((3, BLOCK), types.int32)
        thread, rows = cuda.threadIdx.x, z.shape[0]
        column, place, step, here = column_of_thread(z.shape[1])
        right, positive, true_ones = 0, 0, 0
        for begin in range(0, rows, BLOCK):
            if largest != 0:
                cuda.syncthreads()
                if begin + thread < rows:
                    best[thread] = argmax_of(z, begin + thread)
                cuda.syncthreads()
            if place < step:
                for i in range(begin + place, min(begin + BLOCK, rows), step):
                    above = z[i, column] > real(threshold)
                    said = column == best[i - begin] if largest != 0 else above
                    true = targets[i, column] > half
                    right += 1 if said and true else 0
                    positive += 1 if said else 0
                    true_ones += 1 if true else 0
        counts[0, thread], counts[1, thread], counts[2, thread] = right, positive, true_ones
        cuda.syncthreads()
        if place == 0:
            for kind in range(3):
                total = 0
                for other in range(step):
                    total += counts[kind, thread + other * here]
                sums[at + 3 * column + kind] += total

    return by_blocks(count_positives, "C")


def count_confusion(type_name: str) -> Kernel:
    """Count rows of class a that are taken for class b, in `sums` at ``at + a · classes + b``.

    One column stands for two classes, the second above `threshold` (the target's above ½).
    """
    real, half = getattr(np, type_name), getattr(np, type_name)(0.5)

    @device
    def count_confusion(sums, z, targets, at, threshold):
        places = cuda.shared.array(BLOCK, types.int64)
        ones = cuda.shared.array(BLOCK, types.float64)
        (rows, columns), thread, held, total = z.shape, cuda.threadIdx.x, -1, 0.0
        ones[thread] = 1.0
        for begin in range(0, rows, BLOCK):
            i, count = begin + thread, min(rows - begin, BLOCK)
            cuda.syncthreads()
            if thread < count:
                if columns == 1:
                    true = 1 if targets[i, 0] > half else 0
                    said = 1 if z[i, 0] > real(threshold) else 0
                else:
                    true, said = argmax_of(targets, i), argmax_of(z, i)
                places[thread] = at + true * max(columns, 2) + said
            cuda.syncthreads()
            held, total = tally(sums, places, ones, count, held, total)
        if held >= 0:
            sums[held] = total

    return by_blocks(count_confusion)


def count_buckets(type_name: str) -> Kernel:
    """Add each target and what it lacks to 1 to the two sums of its prediction's bucket.

    Bucket b of `buckets` has the predictions in (b, b + 1] / `buckets`, the first also 0; its sums
    stand from ``at + 2b`` on.
    """
    real, one, flat = getattr(np, type_name), getattr(np, type_name)(1), view(type_name, 1)

    @device
    def count_buckets(sums, z, targets, at, buckets):
        places = cuda.shared.array(BLOCK, types.int64)
        values = cuda.shared.array(BLOCK, types.float64)
        of_z, of_t = flat(address(z), (z.size,)), flat(address(targets), (z.size,))
        thread, held, total = cuda.threadIdx.x, -1, 0.0
        for begin in range(0, z.size, BLOCK // 2):
            i, lacks, count = begin + thread // 2, thread % 2, min(z.size - begin, BLOCK // 2)
            cuda.syncthreads()
            if thread < 2 * count:
                place, bucket = of_z[i] * real(buckets), 0
                if place > one:  # NaN is in the first one
                    bucket = math.ceil(min(place, real(buckets))) - 1
                places[thread] = at + 2 * bucket + lacks
                values[thread] = one - of_t[i] if lacks == 1 else of_t[i]
            cuda.syncthreads()
            held, total = tally(sums, places, values, 2 * count, held, total)
        if held >= 0:
            sums[held] = total

    return by_blocks(count_buckets)


def count_close(type_name: str) -> Kernel:
    """Count in ``sums[at]`` the elements of z within ``sums[at + 1]`` of their targets."""
    all_of, flat = sum_over("float64", BLOCK), view(type_name, 1)

    @device
    def count_close(sums, z, targets, at):
        of_z, of_t = flat(address(z), (z.size,)), flat(address(targets), (z.size,))
        thread, precision, count = cuda.threadIdx.x, sums[at + 1], 0
        for i in range(thread, z.size, BLOCK):
            count += 1 if abs(np.float64(of_z[i]) - np.float64(of_t[i])) < precision else 0
        total = all_of(np.float64(count))
        if thread == 0:
            sums[at] += total

    return by_blocks(count_close)


def sum_squares(type_name: str) -> Kernel:
    """For each column j, from ``at + 3j`` on: its targets' mean, their squares about it, (z − y)².

    Each of a column's threads keeps the mean and the sum of squares of its rows up to date
    (Welford 1962), the first adds them to those of the rows before (Chan, Golub & LeVeque 1979):
    nothing cancels where targets are far from 0.
    """

    @device
    def sum_squares(sums, z, targets, at, first):
        parts = cuda.shared.array((3, BLOCK), types.float64)
        (rows, columns), thread = z.shape, cuda.threadIdx.x
        column, place, step, here = column_of_thread(columns)
        mean, squares, errors = 0.0, 0.0, 0.0
        if place < step:
            count = 0
            for i in range(place, rows, step):
                y = np.float64(targets[i, column])
                error, before = np.float64(z[i, column]) - y, y - mean
                count += 1
                mean += before / np.float64(count)
                squares += before * (y - mean)
                errors += error * error
        parts[0, thread], parts[1, thread], parts[2, thread] = mean, squares, errors
        cuda.syncthreads()
        if place == 0:
            k, count = at + 3 * column, first
            mean, squares, errors = sums[k], sums[k + 1], sums[k + 2]
            for other in range(min(step, rows)):
                at_other, more = thread + other * here, (rows - other + step - 1) // step
                total, apart = np.float64(count + more), parts[0, at_other] - mean
                share = np.float64(more) / total
                mean += apart * share
                squares += parts[1, at_other] + apart * apart * (np.float64(count) * share)
                errors += parts[2, at_other]
                count += more
            sums[k], sums[k + 1], sums[k + 2] = mean, squares, errors

    return by_blocks(sum_squares, "C")


def accumulate(type_name: str, threads: int = BLOCK) -> Kernel:
    """Add the sum of `values`, in float64, to the state's float slot `slot`.

    With `guard`, a sum that is not finite is not added: it raises the flag that ends the run.
    The first so many `threads` of a block do it.
    """
    all_of = sum_over("float64", threads)

    @device
    def accumulate(values, slot, guard, state, floats, phase, position):
        thread, share = cuda.threadIdx.x, 0.0
        for i in range(thread, values.size, threads):
            share += np.float64(values[i])
        total = all_of(share)
        if thread == 0:
            if guard != 0 and not total - total == 0.0:
                raise_flag(state, phase, position)
            else:
                floats[slot] += total

    return by_blocks(accumulate)
