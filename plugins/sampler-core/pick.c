/* pick.c - the last step: makes the choice, by the seeded draw or, at temperature 0, by taking the best.
 *
 * If every candidate is impossible (-infinity or not a number), the lowest id is picked: an answer that does not depend
 * on chance, for a situation that only a broken model or a contradictory constraint brings about. */
#include "core.h"
#include "random.h"

struct pick {
	bool greedy;
	struct ds_random random;
};

static bool active(const struct ds_setting *settings)
{
	return true;
}

static int open_pick(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
		     size_t vocab, struct ds_error *err)
{
	struct pick *pick = calloc(1, sizeof(*pick));

	if (!pick)
		return ds_fail(err, -ENOMEM, "no memory for a sampling step");
	pick->greedy = ds_is_greedy(settings);
	ds_random_init(&pick->random, seed);
	*self = pick;
	return 0;
}

/* The lowest id of those whose logit is @best; if that is -infinity, of all. */
static uint32_t best_of(const struct ds_candidates *candidates, float best)
{
	uint32_t lowest = UINT32_MAX;

	for (size_t i = 0; i < candidates->n; i++)
		if ((candidates->logits[i] == best || best == -INFINITY) && candidates->ids[i] < lowest)
			lowest = candidates->ids[i];
	return lowest;
}

/* One draw from the softmax of the logits, in the order of the list. What weighs nothing is never drawn. */
static uint32_t draw(struct pick *pick, struct ds_candidates *candidates, float best)
{
	double point = ds_random_unit(&pick->random) * ds_candidates_weigh(candidates, best);
	uint32_t picked = DS_NO_TOKEN;

	for (size_t i = 0; i < candidates->n && point >= 0; i++) {
		if (candidates->weights[i] <= 0)
			continue;
		picked = candidates->ids[i];
		point -= candidates->weights[i];
	}
	return picked;
}

static void apply(void *self, struct ds_candidates *candidates)
{
	struct pick *pick = self;
	float best = ds_best_logit(candidates->logits, candidates->n);

	if (pick->greedy || best == -INFINITY)
		candidates->picked = best_of(candidates, best);
	else
		candidates->picked = draw(pick, candidates, best);
}

const struct ds_sampler_ops ds_pick_ops = {
	.size = sizeof(ds_pick_ops),
	.active = active,
	.open = open_pick,
	.apply = apply,
	.close = free,
};
