"""Kernels in C and Triton, each beside a plain version, and a strided convolution for tensor cores."""
