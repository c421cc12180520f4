// An image of the Mandelbrot set and what is computed of it: the definition is
// in the documentation of this module's package kernels.

#include <stdint.h>

struct image {
	long width, height;
	uint32_t max_iter;
	double r2;     // the square of the escape radius
	void *cx, *cy; // of the columns and rows, float or double; cx has room for a group more
	uint32_t *counts;
	float *mags;
};

// rows_function computes the rows from … to−1 of an image.
typedef void rows_function(const struct image *m, long from, long to);

#define FIRST 16 // steps of every orbit that are tested one by one: most pixels outside escape within them
#define BLOCK 8  // steps between two tests after that
#define LONG 16  // the same where only the lane that escaped does them again
#define K 4      // vectors side by side: enough to hide the latency of a multiply-add

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define EACH UNROLL for (int k = 0; k < K; k++)
