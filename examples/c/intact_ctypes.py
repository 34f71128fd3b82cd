"""The C library from Python, by ctypes, on NumPy arrays: nothing is compiled.

    intact_ctypes.py [<path of libintact-c.so>]

Computes a linear layer on threads of Python's and compares its codes with NumPy's integers.
"""

import concurrent.futures
import ctypes
import ctypes.util
import sys

import numpy

U8, S8, U12, S16, S32, F32 = 1, 2, 3, 4, 5, 6
TYPES = {U8: numpy.uint8, S8: numpy.int8, U12: numpy.uint16, S16: numpy.int16, S32: numpy.int32, F32: numpy.float32}
size = ctypes.c_ssize_t
pointer = ctypes.c_void_p


class Matrix(ctypes.Structure):
    """intact_matrix, and intact_const_matrix, too."""

    _fields_ = [("data", pointer), ("rows", size), ("columns", size), ("stride", size), ("type", ctypes.c_int32)]

    def __init__(self, array=None, code=None):
        if array is not None:
            codes = [t for t, dtype in TYPES.items() if dtype == array.dtype]
            if array.ndim != 2 or not codes or (array.size and array.strides[1] != array.itemsize):
                raise ValueError(f"a matrix of the shape {array.shape} and the type {array.dtype}")
            super().__init__(array.ctypes.data, *array.shape, array.strides[0] // array.itemsize, code or codes[0])
            self.array = array  # lives as long


TASK = ctypes.CFUNCTYPE(None, pointer, size)
FOR_EACH = ctypes.CFUNCTYPE(None, pointer, size, TASK, pointer)


class Executor(ctypes.Structure):
    """intact_executor, on a pool of Python's threads. Python does not hold its lock while the library computes."""

    _fields_ = [("threads", size), ("for_each", FOR_EACH), ("context", pointer)]

    def __init__(self, pool, threads):
        def for_each(_, tasks, task, argument):
            list(pool.map(lambda i: task(argument, i), range(tasks)))

        super().__init__(threads, FOR_EACH(for_each), None)


class Weights(ctypes.Structure):
    _fields_ = [("codes", Matrix), ("shifts", Matrix), ("group", size)]


class Product(ctypes.Structure):
    _fields_ = [("a", Matrix), ("weights", pointer), ("y", Matrix)]


class ChannelScale(ctypes.Structure):
    _fields_ = [("multiplier", pointer), ("offset", pointer), ("channels", size), ("shift", ctypes.c_int32),
                ("left_shift", ctypes.c_int32)]


class LinearSpec(ctypes.Structure):
    _fields_ = [("weights", ctypes.POINTER(Weights)), ("factor", pointer), ("addend", pointer),
                ("zero_point", ctypes.c_int32), ("input", ctypes.c_int32)]


class Intact:
    """The functions of the library. A call that fails raises its message."""

    def __init__(self, path):
        self._library = ctypes.CDLL(path)
        self._library.intact_error_message.restype = ctypes.c_char_p

    def __getattr__(self, name):
        function = getattr(self._library, f"intact_{name}")

        def call(*arguments):
            if function(*arguments) != 0:
                raise ValueError(self._library.intact_error_message().decode())

        return call


class Linear:
    """y = W x + b from codes to codes: factor and addend per output channel, as intact_linear_spec has them."""

    def __init__(self, intact, weights, factor, addend, zero_point):
        self._intact = intact
        stored = Weights(codes=Matrix(weights))
        channels = weights.shape[0]
        factor, addend = (numpy.ascontiguousarray(values, numpy.float64) for values in (factor, addend))
        self.multiplier, self.offset = numpy.empty(channels, numpy.int32), numpy.empty(channels, numpy.int64)
        self.scale = ChannelScale()
        spec = LinearSpec(ctypes.pointer(stored), factor.ctypes.data, addend.ctypes.data, zero_point, U8)
        intact.build_linear(ctypes.byref(spec), pointer(self.multiplier.ctypes.data), pointer(self.offset.ctypes.data),
                            ctypes.byref(self.scale))
        count = ctypes.c_size_t()
        intact.packed_weights_bytes(ctypes.byref(stored), ctypes.byref(count))
        self._memory = numpy.empty(count.value, numpy.uint8)
        self._packed = pointer()
        intact.pack_weights(ctypes.byref(stored), pointer(self._memory.ctypes.data), count, ctypes.byref(self._packed))
        self.channels = channels

    def __call__(self, x, executor=None):
        y = numpy.empty((x.shape[0], self.channels), numpy.uint8)
        product = Product(Matrix(x), self._packed, Matrix(y))
        self._intact.gemm_requantize(ctypes.byref(product), ctypes.byref(self.scale),
                                     None if executor is None else ctypes.byref(executor))
        return y


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else ctypes.util.find_library("intact-c")
    if path is None:
        sys.exit("libintact-c was not found: give its path")
    intact = Intact(path)
    random = numpy.random.default_rng(1)
    tokens, inputs, outputs = 197, 192, 768
    x = random.integers(0, 256, (tokens, inputs), numpy.uint8)
    weights = random.integers(-128, 128, (outputs, inputs), numpy.int8)
    factor, addend = random.uniform(0.0002, 0.0005, outputs), random.uniform(90, 160, outputs)
    linear = Linear(intact, weights, factor, addend, zero_point=131)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        y = linear(x, Executor(pool, 2))

    sums = x.astype(numpy.int64) @ weights.astype(numpy.int64).T
    codes = ((sums << linear.scale.left_shift) * linear.multiplier + linear.offset) >> (32 + linear.scale.shift)
    real = factor * (sums - 131 * weights.sum(axis=1, dtype=numpy.int64)) + addend
    if not numpy.array_equal(y, codes.clip(0, 255)) or not numpy.array_equal(y, numpy.rint(real).clip(0, 255)):
        sys.exit("other codes than NumPy's")
    try:
        linear(x[:, :10])
    except ValueError as refusal:
        print(refusal)
    print("the codes of NumPy's integers")


if __name__ == "__main__":
    main()
