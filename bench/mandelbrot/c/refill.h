// Lanes that take the next pixel as soon as theirs has escaped. Included once for
// each type, after lockstep.h.
//
// Pixels go through three stages: the first steps of neighbouring pixels
// together; then those that are left, in blocks of steps, in lanes that are
// refilled; and the block in which a lane escaped again, step by step, for as
// many pixels at a time as there are lanes.

// waiting are orbits that wait: fewer than a group, to which comes a group, and
// room for vectors that are written whole.
struct NAME(waiting) {
	real x[3 * GROUP], y[3 * GROUP], cx[3 * GROUP], cy[3 * GROUP];
	uint32_t n[3 * GROUP], pixel[3 * GROUP]; // the steps done, and where the pixel is
	int count;
};

struct NAME(refilled) {
	const struct image *m;
	long i, j, to; // the next group, and the rows' end
	struct NAME(waiting) ready, done;
	struct NAME(lanes) l;
	W born[K], pixel[K]; // of each lane: the clock when its orbit was at step 0, and its pixel
	uint32_t clock, deadline; // no lane reaches the last whole block before that
	uint32_t limit, rest;     // the steps in whole blocks, and what is left of MaxIter
};

// put adds lanes of a vector to s.
static inline __attribute__((always_inline)) void NAME(put)(struct NAME(waiting) *s, M mask, V x, V y, V cx, V cy, W n, W pixel) {
	int at = s->count;
	F(storeu)(s->x + at, F(maskz_compress)(mask, x));
	F(storeu)(s->y + at, F(maskz_compress)(mask, y));
	F(storeu)(s->cx + at, F(maskz_compress)(mask, cx));
	F(storeu)(s->cy + at, F(maskz_compress)(mask, cy));
	W_(storeu_epi32)(s->n + at, W_(maskz_compress_epi32)(mask, n));
	W_(storeu_epi32)(s->pixel + at, W_(maskz_compress_epi32)(mask, pixel));
	s->count += __builtin_popcount(mask);
}

// begin does the first steps of groups of pixels until a group of orbits is ready,
// or no pixel is left. What escapes is stored; what does not is stored as 0.
static void NAME(begin)(struct NAME(refilled) *r) {
	uint32_t lane[LANES];
	for (int k = 0; k < LANES; k++)
		lane[k] = k;
	W lanes = W_(loadu_epi32)(lane);
	while (r->ready.count < GROUP && r->j < r->to) {
		struct NAME(lanes) l;
		int any = NAME(start)(r->m, &l, r->i, r->j) && NAME(tested)(r->m, &l, 0, FIRST);
		NAME(store)(r->m, &l, r->i, r->j);
		if (any)
			for (int k = 0; k < K; k++) {
				W pixel = W_(add_epi32)(lanes, W_(set1_epi32)(r->j * r->m->width + r->i + k * LANES));
				NAME(put)(&r->ready, l.alive[k], l.x[k], l.y[k], l.cx[k], l.cy[k], W_(set1_epi32)(FIRST), pixel);
			}
		r->i += GROUP;
		if (r->i >= r->m->width)
			r->i = 0, r->j++;
	}
}

// finish finds the steps at which a group of orbits escape, or what there is of
// one, and stores them.
static void NAME(finish)(struct NAME(refilled) *r) {
	struct NAME(waiting) *s = &r->done;
	int n = s->count < GROUP ? s->count : GROUP, at = s->count -= n;
	struct NAME(lanes) l;
	for (int k = 0; k < K; k++) {
		int from = at + k * LANES, left = n - k * LANES;
		l.alive[k] = left >= LANES ? (M)-1 : left <= 0 ? 0 : (M)((1u << left) - 1);
		l.x[k] = F(loadu)(s->x + from), l.y[k] = F(loadu)(s->y + from);
		l.cx[k] = F(loadu)(s->cx + from), l.cy[k] = F(loadu)(s->cy + from);
		l.mag[k] = F(setzero)();
		l.count[k] = W_(set1_epi32)(0);
	}
	NAME(tested)(r->m, &l, 0, LONG);
	uint32_t counts[GROUP];
	float mags[GROUP];
	for (int k = 0; k < K; k++) {
		W_(storeu_epi32)(counts + k * LANES, l.count[k]);
		MAGS(mags + k * LANES, l.mag[k]);
	}
	for (int k = 0; k < n; k++) {
		uint32_t count = s->n[at + k] + counts[k];
		if (counts[k] && count <= r->m->max_iter)
			r->m->counts[s->pixel[at + k]] = count, r->m->mags[s->pixel[at + k]] = mags[k];
	}
}

// refill_vector gives lanes of vector k that are not alive the next orbits.
static inline __attribute__((always_inline)) void NAME(refill_vector)(struct NAME(refilled) *r, int k) {
	M dead = ~r->l.alive[k];
	int want = __builtin_popcount(dead);
	if (r->ready.count < want) {
		NAME(begin)(r);
		for (; r->ready.count < want; want--)
			dead &= dead - 1;
	}
	if (!want)
		return;
	int at = r->ready.count -= want;
	struct NAME(lanes) *l = &r->l;
	l->x[k] = F(mask_expand)(l->x[k], dead, F(loadu)(r->ready.x + at));
	l->y[k] = F(mask_expand)(l->y[k], dead, F(loadu)(r->ready.y + at));
	l->cx[k] = F(mask_expand)(l->cx[k], dead, F(loadu)(r->ready.cx + at));
	l->cy[k] = F(mask_expand)(l->cy[k], dead, F(loadu)(r->ready.cy + at));
	r->pixel[k] = W_(mask_expand_epi32)(r->pixel[k], dead, W_(loadu_epi32)(r->ready.pixel + at));
	r->born[k] = W_(mask_set1_epi32)(r->born[k], dead, r->clock - FIRST);
	l->alive[k] |= dead;
}

// expire takes the lanes that have done the last whole block out of vector k.
static void NAME(expire)(struct NAME(refilled) *r, int k) {
	struct NAME(lanes) *l = &r->l;
	M old = W_(mask_cmpeq_epi32_mask)(l->alive[k], r->born[k], W_(set1_epi32)(r->clock - r->limit));
	if (r->rest)
		NAME(put)(&r->done, old, l->x[k], l->y[k], l->cx[k], l->cy[k], W_(set1_epi32)(r->limit), r->pixel[k]);
	l->alive[k] &= ~old;
}

// oldest returns the steps that the oldest lane has done, 0 if none is alive.
static uint32_t NAME(oldest)(const struct NAME(refilled) *r) {
	uint32_t most = 0, born[LANES];
	for (int k = 0; k < K; k++) {
		W_(storeu_epi32)(born, r->born[k]);
		for (int i = 0; i < LANES; i++)
			if (r->l.alive[k] >> i & 1 && r->clock - born[i] > most)
				most = r->clock - born[i];
	}
	return most;
}

// exchange stores what is known of lanes whose orbits are done, and gives them the
// next ones. l has the orbits as they were before the last block, x and y as they
// are after it; gone are those that have escaped in it, and late says that others
// may have done the last whole block. It returns whether any lane is alive.
static inline __attribute__((always_inline)) int NAME(exchange)(struct NAME(refilled) *r, V *x, V *y, const M *gone, int late) {
	struct NAME(lanes) *l = &r->l;
	int any = 0;
	EACH {
		if (gone[k]) {
			W n = W_(sub_epi32)(W_(set1_epi32)(r->clock - LONG), r->born[k]);
			NAME(put)(&r->done, gone[k], l->x[k], l->y[k], l->cx[k], l->cy[k], n, r->pixel[k]);
			l->alive[k] &= ~gone[k];
		}
		l->x[k] = x[k], l->y[k] = y[k];
		if (late)
			NAME(expire)(r, k);
		if (l->alive[k] != (M)-1)
			NAME(refill_vector)(r, k);
		x[k] = l->x[k], y[k] = l->y[k];
		any |= l->alive[k];
		if (r->done.count >= GROUP)
			NAME(finish)(r);
	}
	if (late)
		r->deadline = r->clock + r->limit - NAME(oldest)(r);
	return any;
}

static void NAME(refill)(const struct image *m, long from, long to) {
	if (m->max_iter < FIRST + LONG) {
		NAME(blocks)(m, from, to);
		return;
	}
	static _Thread_local struct NAME(refilled) r;
	struct NAME(lanes) *l = &r.l;
	r.m = m, r.i = 0, r.j = from, r.to = to;
	r.ready.count = r.done.count = 0;
	r.rest = (m->max_iter - FIRST) % LONG, r.limit = m->max_iter - r.rest;
	r.clock = FIRST, r.deadline = r.limit;
	V limit = F(set1)(m->r2), x[K], y[K];
	int any = 0;
	EACH {
		l->x[k] = l->y[k] = l->cx[k] = l->cy[k] = F(setzero)(); // an orbit that stays
		l->alive[k] = 0;
		NAME(refill_vector)(&r, k);
		x[k] = l->x[k], y[k] = l->y[k];
		any |= l->alive[k];
	}
	while (any) {
		M gone[K];
		int some = 0;
		EACH { l->x[k] = x[k], l->y[k] = y[k]; } // from where the block can be done again
		UNROLL for (int s = 0; s < LONG; s++) EACH STEP
		EACH {
			gone[k] = LEFT_OF(l->alive[k], SQUARE, limit);
			some |= gone[k];
		}
		r.clock += LONG;
		int late = r.clock == r.deadline;
		if (some | late)
			any = NAME(exchange)(&r, x, y, gone, late);
	}
	while (r.done.count)
		NAME(finish)(&r);
}
