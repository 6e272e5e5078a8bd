/* Local response normalisation on a CPU, one pass over memory each way. lrn_cpu.py compiles this file, with REAL=float,
 * with REAL=double, and with BF16 and REAL=float: numbers in memory are then bfloat16, and all between is float.
 *
 *   forward   y = x s^-beta,  s[c] = k + alpha * (sum of x^2 over `size` channels, size / 2 of them below c)
 *   backward  dx = g s^-beta - 2 alpha beta x * (sum of g x s^(-beta - 1) over the mirrored window)
 *
 * Where `relu` is not 0, x is the positive part of what is given, and dx the gradient of that. Not a number stays it.
 *
 * A tensor is `images` blocks of `channels` rows of `pixels` numbers: channels first. Channels last is the same with
 * one pixel, and with every pixel of the batch an image. A tile is `width` pixels with all their channels, of one block
 * or, channels last, of as many; few enough for the second-level cache. In it the next channel is `step` numbers away,
 * and what lies beyond the ends of the channels is zeros, so that a window is a sum of shifted rows, which compilers
 * turn into vector instructions.
 */
#include <float.h>
#include <omp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tgmath.h>

typedef REAL real;

#ifdef BF16
typedef uint16_t number; /* in memory: the upper half of a float */

static inline real load(number given) {
  uint32_t bits = (uint32_t)given << 16;
  real value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* To the nearest, of two as near the even one; not a number stays it, whichever half its bits are in. */
static inline number rounded(real value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : nearest;
}
#else
typedef REAL number;

static inline real load(number given) { return given; }
static inline number rounded(real value) { return value; }
#endif

/* What x is: a number as it is given, or its positive part. */
static inline real of(number given, int relu) {
  real value = load(given);
  return relu && value < 0 ? 0 : value;
}

/* Where a tile lies: `rows` rows of `row` numbers, `pitch` apart. In the buffers they are `apart`, with zeros between,
 * and windows are summed at `length` places, of which those between rows count for nothing. */
typedef struct {
  size_t start, rows, row, pitch, apart, length, step;
} tile;

static tile at(size_t t, size_t images, size_t channels, size_t pixels, size_t width, size_t size) {
  if (pixels == 1) { /* channels last: a row is a pixel */
    size_t first = t * width, rows = images - first < width ? images - first : width, apart = channels + size - 1;
    return (tile){first * channels, rows, channels, channels, apart, rows * apart - (size - 1), 1};
  }
  size_t per_image = (pixels + width - 1) / width, first = t % per_image * width;
  size_t step = pixels - first < width ? pixels - first : width, length = channels * step;
  size_t rows = step == pixels ? 1 : channels, row = length / rows; /* a tile as wide as its block is one row */
  return (tile){t / per_image * channels * pixels + first, rows, row, pixels, row, length, step};
}

/* The sum of `size` rows, from each number of `padded` on: (size - 1 more rows) -> length. Overwrites `padded`, with sums
 * of 2, 4, 8 ... rows, of which the window is made: some 9 passes for 31 rows. */
static void window(real *restrict padded, real *restrict sum, size_t length, size_t step, size_t size) {
  if (size == 5) { /* the paper's, in one pass */
    const real *b = padded + step, *c = b + step, *d = c + step, *e = d + step;
    for (size_t i = 0; i < length; i++) sum[i] = padded[i] + b[i] + c[i] + d[i] + e[i];
    return;
  }
  memset(sum, 0, length * sizeof(real));
  size_t whole = length + (size - 1) * step, summed = 0;
  for (size_t block = 1;; block *= 2) {
    if (size & block) {
      for (size_t i = 0; i < length; i++) sum[i] += padded[i + summed * step];
      summed += block;
    }
    if (summed == size) return;
    whole -= block * step;
    _Pragma("omp simd") for (size_t i = 0; i < whole; i++) padded[i] += padded[i + block * step];
  }
}

/* s^(-1/4) of floats: a quarter of the exponent by integers, which is right to 3%, then twice what follows it in the
 * series of the root, which cubes the error: right to the last bit but one, in a third of the time of two square roots.
 * s beyond the largest float counts as that, as infinity would come out as not a number. */
static inline real inverse_fourth_root(real s) {
  if (sizeof(real) > sizeof(float)) return sqrt(1 / sqrt(s));
  float root, scale = s > FLT_MAX ? FLT_MAX : s;
  uint32_t bits;
  memcpy(&bits, &scale, sizeof bits);
  bits = 0x4f584000 - (bits >> 2);
  memcpy(&root, &bits, sizeof root);
  for (int turn = 0; turn < 2; turn++) {
    float square = root * root, off = 1 - scale * square * square;
    root += root * off * (0.25f + 0.15625f * off);
  }
  return root;
}

/* s^-beta in place of the window sum, and s^-1 where that is kept. */
static inline void power(real *restrict sum, real *restrict inverse, size_t length, real alpha, real beta, real k,
                         int kept) {
  if (beta == (real)0.75)
    for (size_t i = 0; i < length; i++) {
      real root = inverse_fourth_root(k + alpha * sum[i]), square = root * root;
      if (kept) inverse[i] = square * square;
      sum[i] = root * square;
    }
  else
    for (size_t i = 0; i < length; i++) {
      real s = k + alpha * sum[i];
      if (kept) inverse[i] = 1 / s;
      sum[i] = pow(s, -beta);
    }
}

/* The window sums of the squares of a tile of x. `padded` has size - 1 steps more than the tile. */
static void squares(const number *x, tile b, real *restrict padded, real *restrict sum, size_t size, int relu) {
  memset(padded, 0, (b.length + (size - 1) * b.step) * sizeof(real));
  for (size_t r = 0; r < b.rows; r++) {
    const number *restrict in = x + b.start + r * b.pitch;
    real *restrict out = padded + size / 2 * b.step + r * b.apart;
    for (size_t i = 0; i < b.row; i++) out[i] = of(in[i], relu) * of(in[i], relu);
  }
  window(padded, sum, b.length, b.step, size);
}

/* `scratch` has `threads` x 3 buffers of (channels + size - 1) * width numbers. */
#define FOR_EACH_TILE                                                                                                 \
  size_t tiles = pixels == 1 ? (images + width - 1) / width : images * ((pixels + width - 1) / width);                 \
  size_t buffer = (channels + size - 1) * width;                                                                      \
  _Pragma("omp parallel for num_threads(threads)") for (size_t t = 0; t < tiles; t++)

void forward(const number *x, number *y, real *scratch, size_t images, size_t channels, size_t pixels, size_t width,
             size_t size, real alpha, real beta, real k, int relu, int threads) {
  FOR_EACH_TILE {
    real *padded = scratch + omp_get_thread_num() * 3 * buffer, *factor = padded + buffer;
    tile b = at(t, images, channels, pixels, width, size);
    squares(x, b, padded, factor, size, relu);
    power(factor, NULL, b.length, alpha, beta, k, 0);
    for (size_t r = 0; r < b.rows; r++) {
      const number *restrict in = x + b.start + r * b.pitch;
      const real *restrict f = factor + r * b.apart;
      number *restrict out = y + b.start + r * b.pitch;
      for (size_t i = 0; i < b.row; i++) out[i] = rounded(of(in[i], relu) * f[i]);
    }
  }
}

void backward(const number *x, const number *g, number *dx, real *scratch, size_t images, size_t channels,
              size_t pixels, size_t width, size_t size, real alpha, real beta, real k, int relu, int threads) {
  FOR_EACH_TILE {
    real *padded = scratch + omp_get_thread_num() * 3 * buffer, *factor = padded + buffer, *inverse = factor + buffer;
    tile b = at(t, images, channels, pixels, width, size);
    squares(x, b, padded, factor, size, relu);
    power(factor, inverse, b.length, alpha, beta, k, 1);

    memset(padded, 0, (b.length + (size - 1) * b.step) * sizeof(real));
    for (size_t r = 0; r < b.rows; r++) { /* factor becomes g s^-beta; padded, g x s^(-beta - 1) */
      const number *restrict in = x + b.start + r * b.pitch, *restrict up = g + b.start + r * b.pitch;
      real *restrict f = factor + r * b.apart, *restrict inner = padded + (size - 1) / 2 * b.step + r * b.apart;
      const real *restrict inv = inverse + r * b.apart;
      for (size_t i = 0; i < b.row; i++) {
        f[i] *= load(up[i]);
        inner[i] = f[i] * of(in[i], relu) * inv[i];
      }
    }
    window(padded, inverse, b.length, b.step, size);
    for (size_t r = 0; r < b.rows; r++) {
      const number *restrict in = x + b.start + r * b.pitch;
      const real *restrict f = factor + r * b.apart, *restrict spread = inverse + r * b.apart;
      number *restrict out = dx + b.start + r * b.pitch;
      for (size_t i = 0; i < b.row; i++) {
        real value = load(in[i]);
        out[i] = relu && value <= 0 ? 0 : rounded(f[i] - 2 * alpha * beta * value * spread[i]);
      }
    }
  }
}
