/* penalties.c - makes what was said before less likely to be said again.
 *
 * repetition_penalty r, over the whole sequence, prompt included (arXiv:1909.05858, and so in Hugging Face's
 * RepetitionPenaltyLogitsProcessor and in vLLM): a logit above 0 is divided by r, one below is multiplied by it, once,
 * however often the token occurred.
 * presence_penalty p and frequency_penalty f, over the answer alone (OpenAI's API, vLLM): for a token that the answer
 * has n > 0 times so far, logit -= p + f * n.
 *
 * The chain is told of tokens one by one: those it hears of before it is first applied are the prompt. */
#include "core.h"

/* How often a token occurred: bit 0 is set if anywhere, the bits above count the answer. */
#define OCCURRED 1u
#define IN_ANSWER 2u

struct penalties {
	float repetition, presence, frequency;
	bool answering; /* the prompt is over */
	size_t vocab;
	uint32_t seen[]; /* [vocab] */
};

static bool active(const struct ds_setting *settings)
{
	return ds_setting(settings, "repetition_penalty", DEFAULT_REPETITION) != 1 ||
	       ds_setting(settings, "presence_penalty", DEFAULT_PRESENCE) != 0 ||
	       ds_setting(settings, "frequency_penalty", DEFAULT_FREQUENCY) != 0;
}

static int open_penalties(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
			  size_t vocab, struct ds_error *err)
{
	struct penalties *penalties = calloc(1, sizeof(*penalties) + vocab * sizeof(penalties->seen[0]));

	if (!penalties)
		return ds_fail(err, -ENOMEM, "no memory to count %zu tokens", vocab);
	penalties->repetition = (float)ds_setting(settings, "repetition_penalty", DEFAULT_REPETITION);
	penalties->presence = (float)ds_setting(settings, "presence_penalty", DEFAULT_PRESENCE);
	penalties->frequency = (float)ds_setting(settings, "frequency_penalty", DEFAULT_FREQUENCY);
	penalties->vocab = vocab;
	*self = penalties;
	return 0;
}

static void accept(void *self, uint32_t id)
{
	struct penalties *penalties = self;

	if (id >= penalties->vocab)
		return;
	penalties->seen[id] |= OCCURRED;
	if (penalties->answering)
		penalties->seen[id] += IN_ANSWER;
}

static void apply(void *self, struct ds_candidates *candidates)
{
	struct penalties *penalties = self;

	penalties->answering = true;
	candidates->sorted = false;
	for (size_t i = 0; i < candidates->n; i++) {
		uint32_t id = candidates->ids[i], seen = id < penalties->vocab ? penalties->seen[id] : 0;
		float *logit = &candidates->logits[i];

		if (!seen)
			continue;
		*logit = *logit > 0 ? *logit / penalties->repetition : *logit * penalties->repetition;
		if (seen >= IN_ANSWER)
			*logit -= penalties->presence + penalties->frequency * (float)(seen / IN_ANSWER);
	}
}

const struct ds_sampler_ops ds_penalties_ops = {
	.size = sizeof(ds_penalties_ops),
	.active = active,
	.open = open_penalties,
	.accept = accept,
	.apply = apply,
	.close = free,
};
