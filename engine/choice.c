/* choice.c - which tokens may be answers is found out once; at every token ids and logits are copied, in one pass. */
#include "choice.h"
#include "engine.h"

#include <string.h>

struct ds_choice {
	size_t n;
	uint32_t *usable; /* [n], rising */
	uint32_t *ids;	  /* these are the candidates' */
	float *logits, *weights;
};

/* Rows that only round up the embedding's size have no text: they can never be an answer. */
static void find_usable(struct ds_choice *choice, const struct ds_engine *engine)
{
	for (uint32_t id = 0; id < engine->hparams->vocab; id++)
		if (!engine->vocabulary || !(ds_engine_token_flags(engine, id) & DS_TOKEN_UNUSED))
			choice->usable[choice->n++] = id;
	if (choice->n == 0)
		choice->usable[choice->n++] = 0;
}

int ds_choice_new(struct ds_choice **out, const struct ds_engine *engine, struct ds_error *err)
{
	ds_cleanup(ds_choice_freep) struct ds_choice *choice = calloc(1, sizeof(*choice));
	uint32_t vocab = engine->hparams->vocab;

	if (choice) {
		choice->usable = calloc(vocab, sizeof(*choice->usable));
		choice->ids = calloc(vocab, sizeof(*choice->ids));
		choice->logits = calloc(vocab, sizeof(*choice->logits));
		choice->weights = calloc(vocab, sizeof(*choice->weights));
	}
	if (!choice || !choice->usable || !choice->ids || !choice->logits || !choice->weights)
		return ds_fail(err, -ENOMEM, "no memory for a choice among %u tokens", vocab);
	find_usable(choice, engine);
	*out = ds_steal(&choice);
	return 0;
}

struct ds_choice *ds_choice_free(struct ds_choice *choice)
{
	if (!choice)
		return NULL;
	free(choice->usable);
	free(choice->ids);
	free(choice->logits);
	free(choice->weights);
	free(choice);
	return NULL;
}

struct ds_candidates ds_choice_begin(struct ds_choice *choice, const float *logits)
{
	const uint32_t *usable = choice->usable;
	uint32_t *ids = choice->ids;
	float *copies = choice->logits;

	memcpy(ids, usable, choice->n * sizeof(*ids));
	if (choice->n > 0 && usable[choice->n - 1] == choice->n - 1) /* all up to there, as in most vocabularies */
		memcpy(copies, logits, choice->n * sizeof(*copies));
	else
		for (size_t i = 0; i < choice->n; i++)
			copies[i] = logits[usable[i]];
	return (struct ds_candidates){.ids = ids, .logits = copies, .weights = choice->weights, .n = choice->n,
				      .picked = DS_NO_TOKEN};
}

/* NaN and infinity are those with all bits of the exponent. */
bool ds_are_numbers(const float *logits, size_t n)
{
	uint32_t n_broken = 0;

#pragma omp simd reduction(+ : n_broken)
	for (size_t i = 0; i < n; i++) {
		uint32_t bits;

		memcpy(&bits, &logits[i], sizeof(bits));
		n_broken += (bits & 0x7f800000) == 0x7f800000;
	}
	return n_broken == 0;
}
