/* kernels-attention.h - the inner loops of attention: some queries that read the same keys against a tile of positions.
 *
 * A query is one head of one row. Scores and weights lie (positions, queries), so that the lanes of a vector are
 * queries: a key's element is broadcast to all of them, and no sum runs across a vector. Queries are padded to whole
 * vectors; what is computed for the padding is never read. Rows are of float32 or, in the functions that say so, as
 * the cache has them. */
#pragma once

#include <deepseekd/model.h>

enum {
	DS_ATTEND_TILE = 64,    /* positions, an even number */
	DS_ATTEND_QUERIES = 48, /* a multiple of every set's lanes */
	DS_ATTEND_Q8_COLS = 4096,
	DS_ATTEND_FEW = 8, /* so many queries are worth a set with shorter vectors */
};

/* What memory is asked for while there is arithmetic, the rows of the next tile: bytes that follow one another, one run
 * after the other, since memory brings lines in order faster than any other way. The kernels of a tile for rows of BF16
 * and Q8_0 share it and ask at the pace at which they go through the rows; what is left, or all if the kernels do not ask,
 * is asked for before the next tile begins. */
struct ds_run {
	const char *begin, *end;
};

struct ds_ahead {
	const struct ds_run *run, *last; /* the next run, and behind the last one */
	const char *at, *end;		 /* of the run before */
	unsigned n_reads;		 /* how often all kernels of a tile together read a line of the cache */
	unsigned n_read;		 /* lines read since the last was asked for */
};

enum { DS_ASK_ALL = 1 << 30 }; /* lines: more than a tile has */

/* For every n_reads of @n_lines lines that are read, ask for one. */
static inline void ds_ask(struct ds_ahead *a, unsigned n_lines)
{
	for (a->n_read += n_lines; a->n_read >= a->n_reads; a->n_read -= a->n_reads) {
		if (a->at >= a->end) {
			if (a->run == a->last) {
				a->n_read = 0;
				return;
			}
			a->at = a->run->begin;
			a->end = a->run++->end;
		}
		__builtin_prefetch(a->at, 0, 3);
		a->at += 64;
	}
}

struct ds_attend {
	unsigned n_positions; /* 1 to DS_ATTEND_TILE */
	unsigned n_queries;   /* 1 to DS_ATTEND_QUERIES */
	unsigned n;           /* queries with their padding: a multiple of the set's lanes */
	size_t key_cols, value_cols;
	const char *const *keys, *const *values; /* [n_positions]: where the rows of this tile start */
	size_t key_offset, value_offset; /* from there to the columns of these heads */
	/* (key_cols, n) float32 times the scale. Of BF16 (key_cols / 2, n) pairs of neighbours, but of few queries
	 * (n, ds_attend_few_pitch(key_cols)), zeros behind each. */
	const void *q;
	float *scores;    /* (DS_ATTEND_TILE, n): scores, then weights; the mixing kernels may change them */
	void *room;       /* ds_attend_q8_room() bytes for scores_q8_0(), and what it leaves there for mix_q8_0() */
	float *top, *sum; /* [n]: of the softmax so far; -FLT_MAX and 0 to begin with */
	float *factor;    /* [n]: by which weigh() found that what was summed before shrinks */
	float *const *y;  /* [n_queries]: value_cols values each */
	struct ds_ahead *ahead;
};

static inline size_t ds_attend_few_pitch(size_t key_cols)
{
	return (key_cols + 31) / 32 * 32;
}

static inline size_t ds_attend_q8_room(size_t key_cols, size_t value_cols)
{
	/* bytes and scales; weights of eight blocks of columns */
	return DS_ATTEND_TILE *
	       ((key_cols + value_cols) + ((key_cols + value_cols) / 32 + 16) * sizeof(float) + 8 * DS_ATTEND_QUERIES);
}

/* y = y * factor + weights * values is what a mixing kernel does. */
struct ds_attend_kernels {
	unsigned lanes;
	void (*scores)(const struct ds_attend *op);
	void (*weigh)(const struct ds_attend *op); /* scores to weights: exp(score - top) */
	void (*mix)(const struct ds_attend *op);
	/* Rows of BF16, key_cols even and value_cols a multiple of 32; NULL: rows are widened first. */
	void (*scores_bf16)(const struct ds_attend *op);
	void (*weigh_bf16)(const struct ds_attend *op); /* to whatever weights mix_bf16 takes */
	void (*mix_bf16)(const struct ds_attend *op);
	/* Rows of Q8_0 of at most DS_ATTEND_Q8_COLS columns, after which weigh() is the same; NULL: rows are widened
	 * first. pack_q8_0() makes @row, times the scale, query @i of @n of what op->q is then. */
	void (*pack_q8_0)(void *q, const float *row, size_t cols, size_t i, size_t n);
	void (*scores_q8_0)(const struct ds_attend *op);
	void (*mix_q8_0)(const struct ds_attend *op);
};
