/* Normalise and resize planes of uint8, each number of the result written once. Compiled with -DREAL=float or double. */
#include <omp.h>
#include <stddef.h>
#include <stdint.h>

typedef REAL real;

/* Each of `size` places along an axis is made of two of the source, `places`, by their `weights`: pairs, a set of them
   for each window, and a window for each `planes_of_one` planes. One px behind the last of the source there is black. */
typedef struct {
  const int32_t *places;
  const real *weights;
} axis;

/* images: `planes` of height x width. out: as many of size x size. A value v becomes v * scale + shift of its plane.
   scratch: `threads` buffers of (height + 1) * size + width + 1. */
void resize(const uint8_t *images, real *out, const real *scale, const real *shift, const int32_t *row_places,
            const real *row_weights, const int32_t *column_places, const real *column_weights, real *scratch,
            size_t planes, size_t planes_of_one, size_t height, size_t width, size_t size, int threads) {
  size_t buffer = (height + 1) * size + width + 1;
  _Pragma("omp parallel for num_threads(threads)") for (size_t p = 0; p < planes; p++) {
    size_t window = p / planes_of_one * 2 * size;
    axis rows = {row_places + window, row_weights + window}, columns = {column_places + window, column_weights + window};
    real *restrict lines = scratch + omp_get_thread_num() * buffer, *restrict source = lines + (height + 1) * size;

    for (size_t h = 0; h <= height; h++) { /* lines become as long as those of the result, and one black */
      const uint8_t *image = images + (p * height + h) * width;
      for (size_t w = 0; w < width; w++) source[w] = h < height ? image[w] * scale[p] + shift[p] : shift[p];
      source[width] = shift[p];
      for (size_t i = 0; i < size; i++) {
        const int32_t *place = columns.places + 2 * i;
        const real *weight = columns.weights + 2 * i;
        lines[h * size + i] = weight[0] * source[place[0]] + weight[1] * source[place[1]];
      }
    }
    for (size_t r = 0; r < size; r++) { /* a line of the result is made of two of these */
      const real *restrict a = lines + rows.places[2 * r] * size, *restrict b = lines + rows.places[2 * r + 1] * size;
      real one = rows.weights[2 * r], other = rows.weights[2 * r + 1], *restrict line = out + (p * size + r) * size;
      for (size_t i = 0; i < size; i++) line[i] = one * a[i] + other * b[i];
    }
  }
}
