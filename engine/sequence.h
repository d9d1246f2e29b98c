/* sequence.h - one generation or evaluation: its tokens, how far they are computed, what is still to come.
 *
 * The tokens [0, n_computed) are in the KV cache, those up to n_tokens wait to be computed. A step of the scheduler feeds
 * some of the waiting ones in; the logits of a row come back to ds_sequence_take(), which samples, tells the client
 * (answer.h) and appends. A sequence that lost its pages starts over at n_computed 0 and repeats nothing to the client.
 *
 *   prompt | answer            n_prompt <= n_tokens <= max_tokens
 *   computed | waiting         n_computed < n_tokens while it lives
 *
 * Made by the intake thread, then owned by the compute thread. Whoever frees it has ended its outlet before. */
#pragma once

#include "failure.h"
#include "kv.h"
#include "choice.h"

struct ds_answer;
struct ds_chain;
struct ds_engine;

struct ds_sequence {
	const struct ds_engine *engine; /* borrowed */
	struct ds_outlet *outlet;	/* borrowed: where events go */

	uint32_t *tokens; /* [max_tokens] */
	uint32_t n_prompt, n_tokens, n_computed;
	uint32_t max_tokens; /* prompt and answer */
	uint32_t n_cached;   /* tokens of the prompt that were in the cache */
	uint32_t n_told;     /* rows whose logits the client has (evaluation, echo) */
	struct ds_page_table pages;
	char *owner; /* prefixes are shared within one owner; NULL: with nobody */

	bool started; /* STARTED has been sent */
	bool ended;   /* DONE or FAILED has been sent: only the memory is left */

	/* generation */
	struct ds_chain *chain;	  /* NULL: an evaluation */
	struct ds_answer *answer; /* NULL: an evaluation */
	bool echo, echo_logprobs; /* the client wants to see the prompt; with logprobs, and so all its rows */

	/* evaluation */
	uint32_t *chunks; /* [n_chunks] rows of a step, over and over; none: as the scheduler likes */
	uint32_t n_chunks;
	bool mtp; /* the rows are those of the multi-token-prediction block */

	/* in the scheduler */
	uint32_t chunk; /* index of the next one */
	bool paused;	/* its client has not taken what is there */
};

/* A sequence over @tokens (taken, in any case), of at most @max_tokens in all. */
int ds_sequence_new(struct ds_sequence **out, const struct ds_engine *engine, struct ds_outlet *outlet,
		    uint32_t *tokens, uint32_t n_tokens, uint32_t max_tokens, const char *owner,
		    struct ds_failure *failure);
struct ds_sequence *ds_sequence_free(struct ds_sequence *s); /* takes NULL, returns NULL; its pages are released already */
DS_DEFINE_FREEP(ds_sequence)

/* The prompt is known and its prefix is looked up: tell the client. Once, before the first row. */
void ds_sequence_start(struct ds_sequence *s);
/* Rows that one step should feed in; *@exactly: no fewer. */
uint32_t ds_sequence_wanted_rows(const struct ds_sequence *s, bool *exactly);
/* The next @n waiting tokens are computed. */
void ds_sequence_advance(struct ds_sequence *s, uint32_t n);
/* Its pages are gone: all tokens wait again. */
void ds_sequence_rewind(struct ds_sequence *s);
/* Does anybody want the logits of the row at @position? */
bool ds_sequence_wants_logits(const struct ds_sequence *s, uint32_t position);
/* The logits (vocab) of the row at @position, rising. May end the sequence. @scratch is for sampling, (vocab). */
void ds_sequence_take(struct ds_sequence *s, uint32_t position, const float *logits, struct ds_choice *choice);
/* End it with FAILED. */
void ds_sequence_fail(struct ds_sequence *s, const struct ds_failure *failure);
