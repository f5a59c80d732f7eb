"""Several neighbours in an array at once, where the compiler does not see that it may.

Vectors of LLVM, which makes what it can of them on any processor.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _at(context, builder, kind, array, index, n):
    """Pointer to n elements of an array from an index on."""
    data = context.make_array(kind)(context, builder, array).data
    element = context.get_data_type(kind.dtype)
    place = builder.gep(data, [index])
    return builder.bitcast(place, ir.VectorType(element, n).as_pointer())


def _filled(builder, value, n):
    """Vector of n times a value."""
    vector = ir.Constant(ir.VectorType(value.type, n), ir.Undefined)
    for k in range(n):
        vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), k))
    return vector


@intrinsic
def write_eight(typing, to, at, table, first, add):
    """to[at : at + 8] = table[first : first + 8] + add, for uint32, indices uint64."""
    signature = types.void(to, types.uint64, table, types.uint64, types.uint32)

    def generate(context, builder, signature, args):
        kinds = signature.args
        source = _at(context, builder, kinds[2], args[2], args[3], 8)
        target = _at(context, builder, kinds[0], args[0], args[1], 8)
        found = builder.load(source, align=4)
        builder.store(builder.add(found, _filled(builder, args[4], 8)), target, align=4)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def copy_eight(typing, to, at, source, first):
    """to[at : at + 8] = source[first : first + 8], of one type, indices uint64."""
    signature = types.void(to, types.uint64, source, types.uint64)

    def generate(context, builder, signature, args):
        kinds = signature.args
        found = builder.load(
            _at(context, builder, kinds[2], args[2], args[3], 8), align=4
        )
        builder.store(
            found, _at(context, builder, kinds[0], args[0], args[1], 8), align=4
        )
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def changes_of_eight(typing, keys, at, other):
    """Number whose bit k tells whether keys[at + k] differs from keys[other + k]."""
    signature = types.uint64(keys, types.uint64, types.uint64)

    def generate(context, builder, signature, args):
        kind = signature.args[0]
        one = builder.load(_at(context, builder, kind, args[0], args[1], 8), align=4)
        two = builder.load(_at(context, builder, kind, args[0], args[2], 8), align=4)
        bits = builder.bitcast(builder.icmp_unsigned("!=", one, two), ir.IntType(8))
        return builder.zext(bits, ir.IntType(64))

    return signature, generate


@intrinsic
def add_run(typing, to, at, values, last, first, scale, third, fourth):
    """to[at : at + 4] += values[last] - values[first] times scale, the neighbours of
    these, third and fourth; all float64, indices uint64."""
    index, number = types.uint64, types.float64
    signature = types.void(to, index, values, index, index, number, number, number)

    def generate(context, builder, signature, args):
        kinds = signature.args
        int32 = ir.IntType(32)
        pair = ir.VectorType(ir.DoubleType(), 2)
        after = builder.load(
            _at(context, builder, kinds[2], args[2], args[3], 2), align=8
        )
        before = builder.load(
            _at(context, builder, kinds[2], args[2], args[4], 2), align=8
        )
        factor = builder.insert_element(
            ir.Constant(pair, [1.0, 1.0]), args[5], int32(0)
        )
        more = builder.fmul(factor, builder.fsub(after, before))
        rest = builder.insert_element(
            ir.Constant(pair, ir.Undefined), args[6], int32(0)
        )
        rest = builder.insert_element(rest, args[7], int32(1))
        order = ir.Constant(ir.VectorType(int32, 4), [0, 1, 2, 3])
        more = builder.shuffle_vector(more, rest, order)
        place = _at(context, builder, kinds[0], args[0], args[1], 4)
        total = builder.fadd(builder.load(place, align=8), more)
        builder.store(total, place, align=8)
        return context.get_dummy_value()

    return signature, generate
