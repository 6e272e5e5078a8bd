/* Local response normalisation on a CPU, one pass over memory each way. lrn_cpu.py compiles this file, once with
 * REAL=float and once with REAL=double, and calls it.
 *
 *   forward   y = x s^-beta,  s[c] = k + alpha * (sum of x^2 over `size` channels, size / 2 of them below c)
 *   backward  dx = g s^-beta - 2 alpha beta x * (sum of g x s^(-beta - 1) over the mirrored window)
 *
 * Where `relu` is not 0, x is the positive part of what is given, and dx the gradient of that. Not a number stays it.
 *
 * A tensor is `images` blocks of `channels` rows of `pixels` numbers: channels first. Channels last is the same with
 * one pixel, and with every pixel of the batch an image. A tile is `width` pixels of a block with all their channels,
 * few enough for the second-level cache. In it the next channel is `width` numbers away and what lies beyond the ends is
 * zeros, so that a window is a sum of shifted rows, which compilers turn into vector instructions.
 */
#include <omp.h>
#include <stddef.h>
#include <string.h>
#include <tgmath.h>

typedef REAL real;

/* What x is: a number as it is given, or its positive part. */
static inline real of(real given, int relu) { return relu && given < 0 ? 0 : given; }

/* Where a tile lies: `rows` rows of `row` numbers, `pitch` apart. A tile as wide as its block is one row. */
typedef struct {
  size_t start, rows, row, pitch, length, step;
} tile;

static tile at(size_t t, size_t channels, size_t pixels, size_t width) {
  size_t per_image = (pixels + width - 1) / width, first = t % per_image * width;
  size_t step = pixels - first < width ? pixels - first : width, length = channels * step;
  size_t rows = step == pixels ? 1 : channels;
  return (tile){t / per_image * channels * pixels + first, rows, length / rows, pixels, length, step};
}

/* The sum of `size` rows, from each number of `padded` on: (size - 1 more rows) -> length. */
static void window(const real *restrict padded, real *restrict sum, size_t length, size_t step, size_t size) {
  for (size_t i = 0; i < length; i++) sum[i] = padded[i];
  for (size_t n = 1; n < size; n++)
    for (size_t i = 0; i < length; i++) sum[i] += padded[i + n * step];
}

/* s^-beta in place of the window sum, and what stands for s^-1 if it is asked for. The paper's 0.75 by two square
 * roots, several times faster than pow. */
static void power(real *restrict sum, real *restrict inverse, size_t length, real alpha, real beta, real k) {
  if (beta == (real)0.75)
    for (size_t i = 0; i < length; i++) {
      real root = 1 / sqrt(k + alpha * sum[i]);
      inverse[i] = root * root;
      sum[i] = root * sqrt(root);
    }
  else
    for (size_t i = 0; i < length; i++) {
      real s = k + alpha * sum[i];
      inverse[i] = 1 / s;
      sum[i] = pow(s, -beta);
    }
}

/* From the squares of a tile of x to its s^-beta and 1 / s. `padded` has size - 1 rows more than the tile. */
static void scale(const real *x, tile b, real *restrict padded, real *restrict factor, real *restrict inverse,
                  size_t size, real alpha, real beta, real k, int relu) {
  size_t below = size / 2 * b.step, above = (size - 1) / 2 * b.step;
  memset(padded, 0, below * sizeof(real));
  for (size_t r = 0; r < b.rows; r++) {
    const real *restrict in = x + b.start + r * b.pitch;
    real *restrict out = padded + below + r * b.row;
    for (size_t i = 0; i < b.row; i++) out[i] = of(in[i], relu) * in[i];
  }
  memset(padded + below + b.length, 0, above * sizeof(real));
  window(padded, factor, b.length, b.step, size);
  power(factor, inverse, b.length, alpha, beta, k);
}

/* `scratch` has `threads` x 3 buffers of (channels + size - 1) * width numbers. */
#define FOR_EACH_TILE                                                                                          \
  size_t tiles = images * ((pixels + width - 1) / width), buffer = (channels + size - 1) * width;               \
  _Pragma("omp parallel for num_threads(threads)") for (size_t t = 0; t < tiles; t++)

void forward(const real *x, real *y, real *scratch, size_t images, size_t channels, size_t pixels, size_t width,
             size_t size, real alpha, real beta, real k, int relu, int threads) {
  FOR_EACH_TILE {
    real *padded = scratch + omp_get_thread_num() * 3 * buffer, *factor = padded + buffer, *inverse = factor + buffer;
    tile b = at(t, channels, pixels, width);
    scale(x, b, padded, factor, inverse, size, alpha, beta, k, relu);
    for (size_t r = 0; r < b.rows; r++) {
      const real *restrict in = x + b.start + r * b.pitch, *restrict f = factor + r * b.row;
      real *restrict out = y + b.start + r * b.pitch;
      for (size_t i = 0; i < b.row; i++) out[i] = of(in[i], relu) * f[i];
    }
  }
}

void backward(const real *x, const real *g, real *dx, real *scratch, size_t images, size_t channels, size_t pixels,
              size_t width, size_t size, real alpha, real beta, real k, int relu, int threads) {
  FOR_EACH_TILE {
    real *padded = scratch + omp_get_thread_num() * 3 * buffer, *factor = padded + buffer, *inverse = factor + buffer;
    tile b = at(t, channels, pixels, width);
    scale(x, b, padded, factor, inverse, size, alpha, beta, k, relu);

    size_t below = (size - 1) / 2 * b.step, above = size / 2 * b.step;
    memset(padded, 0, below * sizeof(real));
    for (size_t r = 0; r < b.rows; r++) { /* factor becomes g s^-beta; padded, g x s^(-beta - 1) */
      const real *restrict in = x + b.start + r * b.pitch, *restrict up = g + b.start + r * b.pitch;
      real *restrict f = factor + r * b.row, *restrict inner = padded + below + r * b.row;
      const real *restrict inv = inverse + r * b.row;
      for (size_t i = 0; i < b.row; i++) {
        f[i] *= up[i];
        inner[i] = f[i] * of(in[i], relu) * inv[i];
      }
    }
    memset(padded + below + b.length, 0, above * sizeof(real));
    window(padded, inverse, b.length, b.step, size);
    for (size_t r = 0; r < b.rows; r++) {
      const real *restrict in = x + b.start + r * b.pitch, *restrict f = factor + r * b.row;
      const real *restrict spread = inverse + r * b.row;
      real *restrict out = dx + b.start + r * b.pitch;
      for (size_t i = 0; i < b.row; i++)
        out[i] = relu && in[i] <= 0 ? 0 : f[i] - 2 * alpha * beta * in[i] * spread[i];
    }
  }
}
