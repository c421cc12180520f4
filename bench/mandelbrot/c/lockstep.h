// Groups of neighbouring pixels that start and end together. Included once for
// each type, after vectors.h.

// lanes are the orbits of a group, and what came out of those that are not alive.
struct NAME(lanes) {
	V x[K], y[K], cx[K], cy[K];
	V mag[K];
	W count[K];
	M alive[K];
};

// start starts the orbits of the group at column i of row j. Lanes beyond the row
// are not alive, nor are those that the interior test settles.
static inline __attribute__((always_inline)) int NAME(start)(const struct image *m, struct NAME(lanes) *l, long i, long j) {
	V cy = F(set1)(((real *)m->cy)[j]), yy = F(mul)(cy, cy), one = F(set1)(1);
	int any = 0;
	EACH {
		long first = i + k * LANES, left = m->width - first;
		V cx = F(loadu)((real *)m->cx + first);
		V p = F(sub)(cx, F(set1)(0.25)), q = F(fmadd)(p, p, yy), c1 = F(add)(cx, one);
		M inside = WITHIN(F(mul)(q, F(add)(q, p)), F(mul)(F(set1)(0.25), yy));
		inside |= WITHIN(F(fmadd)(c1, c1, yy), F(set1)(0.0625));
		M there = left >= LANES ? (M)-1 : left <= 0 ? 0 : (M)((1u << left) - 1);
		l->alive[k] = there & ~inside;
		any |= l->alive[k];
		l->cx[k] = cx, l->cy[k] = cy;
		l->x[k] = l->y[k] = l->mag[k] = F(setzero)();
		l->count[k] = W_(set1_epi32)(0);
	}
	return any;
}

// store writes what came out of the group at column i of row j.
static inline __attribute__((always_inline)) void NAME(store)(const struct image *m, const struct NAME(lanes) *l, long i, long j) {
	long p = j * m->width + i;
	if (m->width - i >= GROUP) {
		EACH {
			W_(storeu_epi32)(m->counts + p + k * LANES, l->count[k]);
			MAGS(m->mags + p + k * LANES, l->mag[k]);
		}
		return;
	}
	uint32_t counts[GROUP];
	float mags[GROUP];
	EACH {
		W_(storeu_epi32)(counts + k * LANES, l->count[k]);
		MAGS(mags + k * LANES, l->mag[k]);
	}
	memcpy(m->counts + p, counts, sizeof *counts * (m->width - i));
	memcpy(m->mags + p, mags, sizeof *mags * (m->width - i));
}

#ifndef STEP
#define SQUARE F(fmadd)(x[k], x[k], F(mul)(y[k], y[k]))
#define STEP { \
	V t = F(fnmadd)(y[k], y[k], l->cx[k]), d = F(add)(x[k], x[k]); \
	x[k] = F(fmadd)(x[k], x[k], t); \
	y[k] = F(fmadd)(d, y[k], l->cy[k]); \
}
#endif

// tested does up to steps steps and tests each; n have been done. It returns
// whether any lane is alive still.
static inline __attribute__((always_inline)) int NAME(tested)(const struct image *m, struct NAME(lanes) *l, uint32_t n, uint32_t steps) {
	V limit = F(set1)(m->r2), x[K], y[K];
	EACH { x[k] = l->x[k], y[k] = l->y[k]; }
	int any = 1;
	for (uint32_t end = n + steps; n++ < end;) {
		M gone[K];
		int some = 0;
		EACH {
			STEP
			gone[k] = BEYOND_OF(l->alive[k], SQUARE, limit);
			some |= gone[k];
		}
		if (!some)
			continue;
		any = 0;
		EACH {
			l->mag[k] = F(mask_mov)(l->mag[k], gone[k], SQUARE);
			l->count[k] = W_(mask_set1_epi32)(l->count[k], gone[k], n);
			l->alive[k] &= ~gone[k];
			any |= l->alive[k];
		}
		if (!any)
			return 0;
	}
	EACH { l->x[k] = x[k], l->y[k] = y[k]; }
	return any;
}

// simple tests every step.
static void NAME(simple)(const struct image *m, long from, long to) {
	for (long j = from; j < to; j++)
		for (long i = 0; i < m->width; i += GROUP) {
			struct NAME(lanes) l;
			if (NAME(start)(m, &l, i, j))
				NAME(tested)(m, &l, 0, m->max_iter);
			NAME(store)(m, &l, i, j);
		}
}

// untested does BLOCK steps and leaves the lanes as they were where one has
// escaped in them, which it returns.
static inline __attribute__((always_inline)) int NAME(untested)(struct NAME(lanes) *l, V limit) {
	V x[K], y[K];
	int some = 0;
	EACH { x[k] = l->x[k], y[k] = l->y[k]; }
	UNROLL for (int s = 0; s < BLOCK; s++) EACH STEP
	EACH { some |= LEFT_OF(l->alive[k], SQUARE, limit); }
	if (!some)
		EACH { l->x[k] = x[k], l->y[k] = y[k]; }
	return some;
}

// blocks tests the first steps, and then does blocks of steps that it tests, step
// by step, only where a lane has escaped.
static void NAME(blocks)(const struct image *m, long from, long to) {
	V limit = F(set1)(m->r2);
	uint32_t first = m->max_iter < FIRST ? m->max_iter : FIRST;
	for (long j = from; j < to; j++)
		for (long i = 0; i < m->width; i += GROUP) {
			struct NAME(lanes) l;
			int any = NAME(start)(m, &l, i, j) && NAME(tested)(m, &l, 0, first);
			uint32_t n = first;
			for (; any && n + BLOCK <= m->max_iter; n += BLOCK)
				if (NAME(untested)(&l, limit))
					any = NAME(tested)(m, &l, n, BLOCK);
			if (any)
				NAME(tested)(m, &l, n, m->max_iter - n);
			NAME(store)(m, &l, i, j);
		}
}
