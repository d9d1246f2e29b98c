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

static uint32_t best_of(const struct ds_candidates *candidates)
{
	const struct ds_candidate *best = &candidates->data[0];

	for (size_t i = 1; i < candidates->n; i++)
		if (ds_candidate_rank(&candidates->data[i]) > ds_candidate_rank(best))
			best = &candidates->data[i];
	return best->id;
}

/* One draw from the softmax of the logits. What weighs nothing is never drawn. */
static uint32_t draw(struct pick *pick, struct ds_candidates *candidates, float best)
{
	uint32_t picked = DS_NO_TOKEN;
	double total = 0, point;

	for (size_t i = 0; i < candidates->n; i++) {
		candidates->data[i].p = ds_candidate_weight(&candidates->data[i], best);
		total += candidates->data[i].p;
	}
	point = ds_random_unit(&pick->random) * total;
	for (size_t i = 0; i < candidates->n && point >= 0; i++) {
		if (candidates->data[i].p <= 0)
			continue;
		picked = candidates->data[i].id;
		point -= candidates->data[i].p;
	}
	return picked;
}

static void apply(void *self, struct ds_candidates *candidates)
{
	struct pick *pick = self;
	float best = ds_candidates_best(candidates);

	if (pick->greedy || best == -INFINITY)
		candidates->picked = best_of(candidates);
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
