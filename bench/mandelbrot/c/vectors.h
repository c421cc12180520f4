// AVX-512 vectors of REAL_BITS = 32 or 64, under the same names for both. NAME
// makes the names of functions different. W is a vector of as many uint32.

#undef NAME
#undef real
#undef V
#undef W
#undef M
#undef LANES
#undef F
#undef MAGS
#undef W_
#undef COMPARE
#undef COMPARE_OF

#if REAL_BITS == 32
#define NAME(x) x##_f32
#define real float
#define V __m512
#define W __m512i
#define M __mmask16
#define LANES 16
#define F(op) _mm512_##op##_ps
#define COMPARE(a, b, how) _mm512_cmp_ps_mask(a, b, how)
#define COMPARE_OF(mask, a, b, how) _mm512_mask_cmp_ps_mask(mask, a, b, how)
#define MAGS(to, v) _mm512_storeu_ps(to, v)
#define W_(op) _mm512_##op
#else
#define NAME(x) x##_f64
#define real double
#define V __m512d
#define W __m256i
#define M __mmask8
#define LANES 8
#define F(op) _mm512_##op##_pd
#define COMPARE(a, b, how) _mm512_cmp_pd_mask(a, b, how)
#define COMPARE_OF(mask, a, b, how) _mm512_mask_cmp_pd_mask(mask, a, b, how)
#define MAGS(to, v) _mm256_storeu_ps(to, _mm512_cvtpd_ps(v))
#define W_(op) _mm256_##op
#endif

#ifndef GROUP
#define GROUP (K * LANES) // pixels side by side
#define WITHIN(a, b) COMPARE(a, b, _CMP_LE_OQ)
#define BEYOND_OF(mask, a, b) COMPARE_OF(mask, a, b, _CMP_GT_OQ)
// An orbit that has escaped may have become NaN since.
#define LEFT_OF(mask, a, b) COMPARE_OF(mask, a, b, _CMP_NLE_UQ)
#endif
