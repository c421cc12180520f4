// A contestant of bench/mandelbrot: the same arithmetic as this module's, written
// in C with AVX-512 intrinsics.
//
//	main (simple|blocks|refill) THREADS
//
// It answers lines of requests as contestant.go says.

#define _GNU_SOURCE
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "image.h"

#define REAL_BITS 32
#include "vectors.h"
#include "lockstep.h"
#include "refill.h"
#undef REAL_BITS
#define REAL_BITS 64
#include "vectors.h"
#include "lockstep.h"
#include "refill.h"

enum { padding = 64 }; // pixels of the largest group

// crew are the threads that compute an image several times over.
struct crew {
	const struct image *m;
	rows_function *rows;
	int threads, times;
	long chunk;      // rows that a thread takes at a time
	atomic_long next; // the next row to be taken
	pthread_barrier_t barrier;
	double seconds;
};

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void *work(void *argument) {
	struct crew *c = argument;
	for (int i = 0; i < c->times; i++) {
		pthread_barrier_wait(&c->barrier);
		for (long from; (from = atomic_fetch_add(&c->next, c->chunk)) < c->m->height;) {
			long to = from + c->chunk;
			c->rows(c->m, from, to < c->m->height ? to : c->m->height);
		}
		if (pthread_barrier_wait(&c->barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
			atomic_store(&c->next, 0);
		pthread_barrier_wait(&c->barrier);
	}
	return NULL;
}

// compute computes the image times times and returns the seconds that one took.
static double compute(const struct image *m, rows_function *rows, int threads, int times) {
	struct crew c = {.m = m, .rows = rows, .threads = threads, .times = times};
	// Refilled lanes run empty at the end of a chunk, so one thread takes all.
	c.chunk = threads == 1 ? m->height : m->height / (16 * threads) + 1;
	pthread_barrier_init(&c.barrier, NULL, threads);
	pthread_t *others = calloc(threads, sizeof *others);
	double begin = now();
	for (int i = 1; i < threads; i++)
		pthread_create(&others[i], NULL, work, &c);
	work(&c);
	for (int i = 1; i < threads; i++)
		pthread_join(others[i], NULL);
	double seconds = (now() - begin) / times;
	pthread_barrier_destroy(&c.barrier);
	free(others);
	return seconds;
}

static void *allocate(size_t bytes) {
	void *p = NULL;
	if (posix_memalign(&p, 64, bytes))
		exit(1);
	return memset(p, 0, bytes);
}

// set puts a coordinate into an axis.
static void set(void *axis, long i, double value, int wide) {
	if (wide)
		((double *)axis)[i] = value;
	else
		((float *)axis)[i] = value;
}

static void release(struct image *m) {
	free(m->cx), free(m->cy), free(m->counts), free(m->mags);
}

static void prepare(struct image *m, int wide, double re, double im, double span) {
	long w = m->width, h = m->height;
	m->cx = allocate(8 * (w + padding)), m->cy = allocate(8 * h);
	m->counts = allocate(4 * w * h), m->mags = allocate(4 * w * h);
	double step = span / w;
	for (long i = 0; i < w; i++)
		set(m->cx, i, fma(i + 0.5 - w / 2.0, step, re), wide);
	for (long j = 0; j < h; j++)
		set(m->cy, j, fma(h / 2.0 - 0.5 - j, step, im), wide);
}

static int dump(const struct image *m, const char *path) {
	FILE *f = fopen(path, "w");
	size_t n = m->width * m->height;
	if (!f)
		return -1;
	int short_of = fwrite(m->counts, 4, n, f) != n || fwrite(m->mags, 4, n, f) != n;
	return fclose(f) || short_of ? -1 : 0;
}

int main(int argc, char **argv) {
	if (argc != 3)
		return 2;
	static rows_function *const all[3][2] = {
		{simple_f32, simple_f64}, {blocks_f32, blocks_f64}, {refill_f32, refill_f64},
	};
	int variant = argv[1][0] == 's' ? 0 : argv[1][0] == 'b' ? 1 : 2, threads = atoi(argv[2]);
	printf("%s, threads: %d\n", __VERSION__, threads);
	fflush(stdout);
	// Images of both types come by turns.
	struct image ready[2] = {0};
	char line[4096], before[2][4096] = {"", ""};
	while (fgets(line, sizeof line, stdin)) {
		char type[8], path[2048];
		double re, im, span;
		struct image asked = {0};
		int times, end;
		if (sscanf(line, "%7s %lf %lf %lf %ld %ld %u %lf%n %d %2047s", type, &re, &im, &span,
			&asked.width, &asked.height, &asked.max_iter, &asked.r2, &end, &times, path) != 10) {
			printf("! bad request\n");
			fflush(stdout);
			continue;
		}
		int wide = !strcmp(type, "f64");
		struct image *m = &ready[wide];
		line[end] = 0;
		if (strcmp(line, before[wide])) {
			strcpy(before[wide], line);
			release(m);
			*m = asked;
			prepare(m, wide, re, im, span);
		}
		double seconds = compute(m, all[variant][wide], threads, times);
		uint64_t sum = 0;
		for (long p = 0; p < m->width * m->height; p++)
			sum += m->counts[p];
		if (strcmp(path, "-") && dump(m, path))
			printf("! cannot write %s\n", path);
		else
			printf("%.9g %llu\n", seconds, (unsigned long long)sum);
		fflush(stdout);
	}
}
