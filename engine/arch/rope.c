/* rope.c - f_i = theta^(-2i / width), and what scaling does to it so that longer texts look like those of the training.
 * Computed in double precision, kept in float32. */
#include "rope.h"

#include <math.h>

static bool positive(float x)
{
	return x > 0 && isfinite(x);
}

static int check_divisors(const struct ds_hparams *p, uint32_t width, struct ds_error *err)
{
	if (width / 2 > DS_MAX_ROPE_PAIRS)
		return ds_fail(err, -EINVAL, "there are %u rotated pairs and %d rope_divisors", width / 2,
			       DS_MAX_ROPE_PAIRS);
	for (uint32_t i = 0; i < width / 2; i++)
		if (!positive(p->rope_divisors[i]))
			return ds_fail(err, -EINVAL, "hyperparameter rope_divisors[%u] is %g (allowed: above 0)", i,
				       p->rope_divisors[i]);
	return 0;
}

int ds_rope_check(const struct ds_hparams *p, uint32_t width, struct ds_error *err)
{
	if (!(p->rope_theta > 1 && isfinite(p->rope_theta)))
		return ds_fail(err, -EINVAL, "hyperparameter rope_theta is %g (allowed: above 1)", p->rope_theta);
	switch (p->rope_scaling) {
	case DS_ROPE_PLAIN:
		return 0;
	case DS_ROPE_YARN:
		if (positive(p->rope_factor) && positive(p->rope_beta_fast) && positive(p->rope_beta_slow) &&
		    isfinite(p->rope_mscale_all_dim) && p->rope_original_context > 0 && isfinite(p->rope_magnitude))
			return 0;
		return ds_fail(err, -EINVAL,
			       "the hyperparameters of YaRN (rope_factor, beta, mscale, magnitude) make no sense");
	case DS_ROPE_LINEAR:
		if (positive(p->rope_factor))
			return 0;
		return ds_fail(err, -EINVAL, "hyperparameter rope_factor is %g (allowed: above 0)", p->rope_factor);
	case DS_ROPE_LLAMA3:
		if (positive(p->rope_factor) && positive(p->rope_low_freq_factor) &&
		    isfinite(p->rope_high_freq_factor) && p->rope_high_freq_factor > p->rope_low_freq_factor &&
		    p->rope_original_context > 0)
			return 0;
		return ds_fail(err, -EINVAL,
			       "the hyperparameters of llama3's rope scaling (rope_factor, freq_factor) make no sense");
	case DS_ROPE_DIVISORS:
		return check_divisors(p, width, err);
	default:
		return ds_fail(err, -EINVAL, "hyperparameter rope_scaling is %u, which is none", p->rope_scaling);
	}
}

/* The dimension whose wave turns @turns times within the original context (YaRN, arXiv:2309.00071, section 3.2). */
static double turning_dimension(const struct ds_hparams *p, uint32_t width, double turns)
{
	return width * log(p->rope_original_context / (2 * M_PI * turns)) / (2 * log((double)p->rope_theta));
}

/* Slow waves are stretched by the factor, fast ones stay, those between are blended:
 * f * (1 - ramp) + f / factor * ramp, ramp rising from 0 to 1 between the dimensions of beta_fast and beta_slow. */
static double yarn(const struct ds_hparams *p, uint32_t width, uint32_t i, double f)
{
	double low = fmax(floor(turning_dimension(p, width, p->rope_beta_fast)), 0);
	double high = fmin(ceil(turning_dimension(p, width, p->rope_beta_slow)), width - 1.0);
	double ramp = (i - low) / (high == low ? 0.001 : high - low);

	ramp = fmin(fmax(ramp, 0), 1);
	return f / p->rope_factor * ramp + f * (1 - ramp);
}

/* Llama 3.1 as Meta published it: waves longer than original / low_freq_factor are stretched by the factor, those
 * shorter than original / high_freq_factor stay, those between are blended by how often they turn within the original
 * context. */
static double llama3(const struct ds_hparams *p, double f)
{
	double turns = p->rope_original_context * f / (2 * M_PI);
	double low = p->rope_low_freq_factor, high = p->rope_high_freq_factor;
	double stay = fmin(fmax((turns - low) / (high - low), 0), 1);

	return f / p->rope_factor * (1 - stay) + f * stay;
}

void ds_rope_frequencies(float *frequencies, const struct ds_hparams *p, uint32_t width)
{
	for (uint32_t i = 0; i < width / 2; i++) {
		double f = pow((double)p->rope_theta, -2.0 * i / width);

		switch (p->rope_scaling) {
		case DS_ROPE_YARN:
			f = yarn(p, width, i, f);
			break;
		case DS_ROPE_LINEAR:
			f /= p->rope_factor;
			break;
		case DS_ROPE_LLAMA3:
			f = llama3(p, f);
			break;
		case DS_ROPE_DIVISORS:
			f /= p->rope_divisors[i];
			break;
		}
		frequencies[i] = (float)f;
	}
}
