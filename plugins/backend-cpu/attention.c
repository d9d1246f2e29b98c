/* attention.c - attention over the paged cache (FlashAttention's online softmax, arXiv:2205.14135), latent and grouped.
 *
 * A piece of work is a block of rows, some of their heads, and a share of the positions. Rows of a block that belong to
 * one sequence and heads that read the same keys are taken together as a unit: a tile of positions comes from memory
 * once for all of them. Positions are shared out only where there are too few rows and heads for the team, in decoding
 * at depth; then each piece leaves what it summed, and a second pass joins the shares (Flash-Decoding, PyTorch blog,
 * 2023). In latent attention a tile serves twice: its whole rows for the scores, their first kv_lora columns for the
 * sum.
 *
 * A member's scratch has two halves: the first is what a piece works with, in the second pieces leave their shares. */
#include "cpu.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
	PIECES_A_MEMBER = 4,
	MIN_SHARE = 256, /* positions that are worth a piece of their own */
	HALF = DS_SCRATCH / 2,
	LINE = 16, /* floats */
};

/* Columns of a cache: for key head g those from g * cols on. */
struct columns {
	const struct ds_kv *kv;
	size_t cols;
};

/* Columns of the queries. */
struct part {
	const float *x;
	size_t row_stride, head_stride, cols;
};

/* How the kernels take rows: of float32, or as the cache has them. */
enum form { AS_IS, WIDENED, AS_BF16, AS_Q8_0 };

struct job {
	const struct ds_cpu *cpu;
	const struct ds_rows *rows;
	struct columns keys, values;
	struct part parts[2]; /* side by side they are as wide as the keys */
	float *y;             /* (n, n_heads, values.cols) */
	size_t y_stride;      /* elements between rows */
	float scale;
	enum form form;
	size_t tile,
		most_queries; /* positions at once, queries of a unit: less than the kernels take if rows are long */
	size_t n_heads;       /* of a row */
	size_t n_sharing;     /* heads that read the same keys and values */
	size_t block_rows, n_blocks;
	size_t unit_heads;             /* most heads of a unit */
	size_t units_a_group, n_units; /* of the heads that share, of a row */
	size_t units_taken, n_chunks;  /* of a piece; pieces of all units */
	size_t n_shares;               /* of the positions */
};

/* Some heads that share their keys, of some rows of one sequence. */
struct unit {
	const struct ds_attend_kernels *kernels;
	size_t head, n_heads, key_head;
	unsigned n_queries, n; /* as in struct ds_attend */
	float *q, *sums; /* sums (most_queries, share_pitch()): of a share until it is complete */
	float *y[DS_ATTEND_QUERIES];
	float top[DS_ATTEND_QUERIES], sum[DS_ATTEND_QUERIES], factor[DS_ATTEND_QUERIES];
};

/* Rows of a tile that had to be widened. */
struct wide {
	const char *rows[DS_ATTEND_TILE];
	float *data; /* (tile, cols) */
};

/* What a piece works with. */
struct desk {
	size_t first_row, first_unit, n_units; /* the piece: its first row, of one sequence, and its units */
	const char *keys[DS_ATTEND_TILE], *values[DS_ATTEND_TILE]; /* as in struct ds_attend; values unless keys are both */
	struct ds_run runs[2 * DS_ATTEND_TILE]; /* of the next tile, keys and then values */
	struct ds_ahead ahead;
	float *scores;
	float *row; /* (keys.cols) of a query */
	void *room; /* as in struct ds_attend */
	struct wide keys_wide, values_wide;
	struct unit units[];
};

static size_t whole_lines(size_t n)
{
	return (n + LINE - 1) / LINE * LINE;
}

/* A share of one query is its sum (values.cols), then the softmax's largest score and sum. */
static size_t share_pitch(const struct job *job)
{
	return whole_lines(job->values.cols + 2);
}

/* Numbers a unit needs, beside the sums of a share. */
static size_t unit_room(const struct job *job)
{
	return whole_lines(sizeof(struct unit) / sizeof(float) + 1) + job->most_queries * job->keys.cols;
}

static size_t sums_room(const struct job *job)
{
	return job->most_queries * share_pitch(job);
}

static size_t wide_cols(const struct job *job)
{
	return job->form == WIDENED ? job->keys.cols + (job->values.kv != job->keys.kv ? job->values.cols : 0) : 0;
}

static size_t q8_room(const struct job *job)
{
	return job->form == AS_Q8_0 ? whole_lines(ds_attend_q8_room(job->keys.cols, job->values.cols) / sizeof(float))
				    : 0;
}

/* Numbers a desk without units needs. */
static size_t desk_room(const struct job *job)
{
	return whole_lines(sizeof(struct desk) / sizeof(float) + 1) + job->tile * (DS_ATTEND_QUERIES + wide_cols(job)) +
	       q8_room(job) + whole_lines(job->keys.cols) + 2 * LINE;
}

/* What a desk with one unit holds. Rows of 9216 elements, the longest there are, fit with 16 queries and 8 positions.
 */
static void choose_tile(struct job *job)
{
	job->tile = DS_ATTEND_TILE;
	job->most_queries = DS_ATTEND_QUERIES;
	while (desk_room(job) + unit_room(job) > HALF) {
		if (job->most_queries > 16 && job->most_queries * job->keys.cols > job->tile * wide_cols(job))
			job->most_queries -= 16;
		else
			job->tile /= 2;
	}
}

static float *take(float **room, size_t n)
{
	float *taken = *room;

	*room += whole_lines(n);
	return taken;
}

static struct desk *lay_out(const struct job *job, unsigned member)
{
	float *room = ds_cpu_scratch(job->cpu, member);
	struct desk *desk = (struct desk *)room;

	take(&room, (sizeof(*desk) + job->units_taken * sizeof(struct unit)) / sizeof(float) + 1);
	desk->scores = take(&room, job->tile * DS_ATTEND_QUERIES);
	desk->row = take(&room, job->keys.cols);
	desk->room = take(&room, q8_room(job));
	if (job->form == WIDENED) {
		desk->keys_wide.data = take(&room, job->tile * job->keys.cols);
		if (job->values.kv != job->keys.kv)
			desk->values_wide.data = take(&room, job->tile * job->values.cols);
	}
	for (size_t i = 0; i < job->units_taken; i++) {
		desk->units[i].q = take(&room, job->most_queries * job->keys.cols);
		if (job->n_shares > 1)
			desk->units[i].sums = take(&room, sums_room(job));
	}
	return desk;
}

/* ---- shares of the positions ---- */

/* So many blocks' shares fit into a member's half. */
static size_t shares_a_member(const struct job *job)
{
	return HALF / (job->block_rows * job->n_heads * share_pitch(job));
}

/* Of row @row and head @head, the share @share of its block. */
static float *share_of(const struct job *job, size_t row, size_t head, size_t share)
{
	size_t slot = row / job->block_rows * job->n_shares + share, a_member = shares_a_member(job);
	size_t query = slot % a_member * job->block_rows * job->n_heads + row % job->block_rows * job->n_heads + head;

	return ds_cpu_scratch(job->cpu, (unsigned)(slot / a_member)) + HALF + query * share_pitch(job);
}

static void join_shares(void *arg, size_t first, size_t last, unsigned member)
{
	const struct job *job = arg;
	const struct ds_kernels *kernels = &job->cpu->kernels;
	size_t cols = job->values.cols;

	for (size_t i = first; i < last; i++) {
		size_t row = i / job->n_heads, head = i % job->n_heads;
		float *y = job->y + row * job->y_stride + head * cols, top = -FLT_MAX, sum = 0;

		for (size_t s = 0; s < job->n_shares; s++)
			top = fmaxf(top, share_of(job, row, head, s)[cols]);
		memset(y, 0, cols * sizeof(*y));
		for (size_t s = 0; s < job->n_shares; s++) {
			const float *share = share_of(job, row, head, s);
			float factor = expf(share[cols] - top);

			sum += factor * share[cols + 1];
			kernels->add_scaled(y, share, factor, cols);
		}
		kernels->scale(y, 1 / sum, cols);
	}
}

/* ---- a unit ---- */

static void gather_query(const struct job *job, size_t row, size_t head, float *q)
{
	for (size_t p = 0; p < DS_ARRAY_SIZE(job->parts) && job->parts[p].cols > 0; p++) {
		const struct part *part = &job->parts[p];
		const float *x = part->x + row * part->row_stride + head * part->head_stride;

		for (size_t i = 0; i < part->cols; i++)
			*q++ = x[i] * job->scale;
	}
}

/* Query @i of the unit, as struct ds_attend has them. */
static void pack_query(const struct job *job, const struct unit *unit, size_t i, float *row)
{
	uint32_t *pairs = (uint32_t *)unit->q + i, pair;
	float *q = unit->q + i;

	if (job->form == AS_Q8_0) {
		unit->kernels->pack_q8_0(unit->q, row, job->keys.cols, i, unit->n);
		return;
	}
	if (job->form != AS_BF16) {
		for (size_t d = 0; d < job->keys.cols; d++)
			q[d * unit->n] = row[d];
		return;
	}
	if (unit->kernels == &job->cpu->kernels.attend_few) {
		job->cpu->kernels.narrow[DS_DTYPE_BF16]((uint16_t *)unit->q + i * ds_attend_few_pitch(job->keys.cols),
							row, job->keys.cols);
		return;
	}
	job->cpu->kernels.narrow[DS_DTYPE_BF16](row, row, job->keys.cols);
	for (size_t d = 0; d < job->keys.cols / 2; d++) {
		memcpy(&pair, (char *)row + d * sizeof(pair), sizeof(pair));
		pairs[d * unit->n] = pair;
	}
}

/* Unit @index of the rows @row to @row + @n_rows - 1; it sums into @job's output, or what becomes a share. */
static void begin_unit(const struct job *job, struct unit *unit, size_t index, size_t row, size_t n_rows,
		       struct desk *desk)
{
	size_t begin = index % job->units_a_group * job->unit_heads, left = job->n_sharing - begin, i = 0;

	unit->key_head = index / job->units_a_group;
	unit->head = unit->key_head * job->n_sharing + begin;
	unit->n_heads = left < job->unit_heads ? left : job->unit_heads;
	unit->n_queries = (unsigned)(n_rows * unit->n_heads);
	unit->kernels = unit->n_queries <= DS_ATTEND_FEW && job->form != AS_Q8_0 ? &job->cpu->kernels.attend_few
										 : &job->cpu->kernels.attend;
	unit->n = (unit->n_queries + unit->kernels->lanes - 1) / unit->kernels->lanes * unit->kernels->lanes;
	memset(unit->q, 0, unit->n * job->keys.cols * sizeof(float));
	for (size_t r = row; r < row + n_rows; r++)
		for (size_t head = unit->head; head < unit->head + unit->n_heads; head++, i++) {
			gather_query(job, r, head, desk->row);
			pack_query(job, unit, i, desk->row);
			unit->y[i] = job->n_shares > 1 ? unit->sums + i * share_pitch(job)
						       : job->y + r * job->y_stride + head * job->values.cols;
			memset(unit->y[i], 0, job->values.cols * sizeof(float));
		}
	for (i = 0; i < unit->n; i++) {
		unit->top[i] = -FLT_MAX;
		unit->sum[i] = 0;
	}
}

/* A share is summed in the member's own memory and copied once: adding to lines that another member wrote last is slow. */
static void end_unit(const struct job *job, struct unit *unit, size_t row, size_t share)
{
	size_t cols = job->values.cols;

	for (size_t i = 0; i < unit->n_queries; i++) {
		float *y = unit->y[i];

		if (job->n_shares == 1) {
			job->cpu->kernels.scale(y, 1 / unit->sum[i], cols);
			continue;
		}
		y[cols] = unit->top[i];
		y[cols + 1] = unit->sum[i];
		memcpy(share_of(job, row + i / unit->n_heads, unit->head + i % unit->n_heads, share), y,
		       (cols + 2) * sizeof(*y));
	}
}

/* ---- a tile ---- */

/* So many of the positions from @t to @end - 1 are in the page of the first. */
static size_t n_in_page(const struct ds_kv *kv, size_t t, size_t end)
{
	size_t left = kv->page_tokens - t % kv->page_tokens;

	return left < end - t ? left : end - t;
}

/* Where the rows of the positions from @t to @end - 1 start, page by page. */
static void find_rows(const struct job *job, const struct ds_kv *kv, size_t row, size_t t, size_t end,
		      const char **starts)
{
	size_t size = ds_row_size(kv->dtype, kv->width);

	for (size_t n; t < end; t += n) {
		const char *p = ds_kv_row(kv, job->rows->pages[row], t);

		n = n_in_page(kv, t, end);
		for (size_t i = 0; i < n; i++)
			*starts++ = p + i * size;
	}
}

/* What the units of the piece read of the positions from @t to @end - 1, into @run: the columns of their key heads, row by
 * row, or where these are all there are, page by page. Returns the end of the runs. */
static struct ds_run *find_runs(const struct job *job, const struct desk *desk, const struct columns *c, size_t t, size_t end,
				struct ds_run *run)
{
	size_t head = desk->first_unit / job->units_a_group;
	size_t n_heads = (desk->first_unit + desk->n_units - 1) / job->units_a_group + 1 - head;
	size_t size = ds_row_size(c->kv->dtype, n_heads * c->cols), pitch = ds_row_size(c->kv->dtype, c->kv->width);

	for (size_t n; t < end; t += n) {
		const char *p = ds_kv_row(c->kv, job->rows->pages[desk->first_row], t) + ds_row_size(c->kv->dtype, head * c->cols);

		n = size < pitch ? 1 : n_in_page(c->kv, t, end);
		*run++ = (struct ds_run){p, p + (n - 1) * pitch + size};
	}
	return run;
}

/* Let the kernels ask for the tile from @t on, of positions up to @end - 1. */
static void look_ahead(const struct job *job, size_t t, size_t end, struct desk *desk)
{
	size_t next = end - t < job->tile ? end : t + job->tile;
	struct ds_run *last = find_runs(job, desk, &job->keys, t, next, desk->runs);
	/* Rows that are keys and values at once are read once more for the values, unless they were widened. */
	bool is_same = job->values.kv == job->keys.kv;
	size_t n_sharing = desk->n_units < job->units_a_group ? desk->n_units : job->units_a_group;

	if (!is_same)
		last = find_runs(job, desk, &job->values, t, next, last);
	desk->ahead = (struct ds_ahead){
		.run = desk->runs,
		.last = last,
		.n_reads = (unsigned)(is_same && job->form != WIDENED ? 2 * n_sharing : n_sharing),
	};
}

/* @n rows of the cache as float32, and where these are. */
static void widen_rows(const struct job *job, const struct columns *c, size_t offset, const char *const *starts,
		       size_t n, struct desk *desk, struct wide *wide, const char *const **rows, size_t *wide_offset)
{
	enum ds_dtype dtype = c->kv->dtype;
	size_t size = ds_row_size(dtype, c->cols);

	for (size_t i = 0; i < n; i++) {
		ds_ask(&desk->ahead, (unsigned)(size / 64));
		job->cpu->kernels.widen[dtype](wide->data + i * c->cols, starts[i] + offset, c->cols);
		wide->rows[i] = (const char *)(wide->data + i * c->cols);
	}
	*rows = wide->rows;
	*wide_offset = 0;
}

/* No row sees positions after its own. */
static void hide_later(const struct job *job, const struct unit *unit, const struct ds_attend *op, size_t row, size_t t)
{
	for (size_t i = 0; i < op->n_queries; i += unit->n_heads) {
		size_t n_seen = (size_t)job->rows->positions[row + i / unit->n_heads] + 1;

		for (size_t j = n_seen > t ? n_seen - t : 0; j < op->n_positions; j++)
			for (size_t h = 0; h < unit->n_heads; h++)
				op->scores[j * op->n + i + h] = -INFINITY;
	}
}

static void attend_tile(const struct job *job, size_t i, size_t row, size_t t, size_t n, struct desk *desk)
{
	struct unit *unit = &desk->units[i];
	const struct ds_attend_kernels *kernels = unit->kernels;
	const struct ds_kv *k = job->keys.kv, *v = job->values.kv;
	struct ds_attend op = {
		.n_positions = (unsigned)n,
		.n_queries = unit->n_queries,
		.n = unit->n,
		.key_cols = job->keys.cols,
		.value_cols = job->values.cols,
		.keys = desk->keys,
		.values = desk->values,
		.key_offset = ds_row_size(k->dtype, unit->key_head * job->keys.cols),
		.value_offset = ds_row_size(v->dtype, unit->key_head * job->values.cols),
		.q = unit->q,
		.scores = desk->scores,
		.room = desk->room,
		.top = unit->top,
		.sum = unit->sum,
		.factor = unit->factor,
		.y = unit->y,
		.ahead = &desk->ahead,
	};

	if (job->form == WIDENED)
		widen_rows(job, &job->keys, op.key_offset, desk->keys, n, desk, &desk->keys_wide, &op.keys, &op.key_offset);
	(job->form == AS_BF16   ? kernels->scores_bf16
	 : job->form == AS_Q8_0 ? kernels->scores_q8_0
				: kernels->scores)(&op);
	hide_later(job, unit, &op, row, t);
	(job->form == AS_BF16 ? kernels->weigh_bf16 : kernels->weigh)(&op);
	if (v == k) { /* values are the first columns of keys */
		op.values = op.keys;
		op.value_offset = op.key_offset;
	} else if (job->form == WIDENED) {
		widen_rows(job, &job->values, op.value_offset, desk->values, n, desk, &desk->values_wide, &op.values,
			   &op.value_offset);
	}
	(job->form == AS_BF16 ? kernels->mix_bf16 : job->form == AS_Q8_0 ? kernels->mix_q8_0 : kernels->mix)(&op);
}

/* ---- pieces ---- */

/* Rows @row to @row + @n_rows - 1, all of one sequence: the units from @first on. */
static void attend(const struct job *job, size_t row, size_t n_rows, size_t first, size_t share, struct desk *desk)
{
	size_t n_seen = 0, n_tiles, begin, end;

	desk->first_row = row;
	desk->first_unit = first;
	desk->n_units = job->n_units - first < job->units_taken ? job->n_units - first : job->units_taken;
	for (size_t r = row; r < row + n_rows; r++)
		if (n_seen <= job->rows->positions[r])
			n_seen = (size_t)job->rows->positions[r] + 1;
	n_tiles = (n_seen + job->tile - 1) / job->tile;
	begin = n_tiles * share / job->n_shares * job->tile;
	end = n_tiles * (share + 1) / job->n_shares * job->tile;
	end = end < n_seen ? end : n_seen;
	for (size_t i = 0; i < desk->n_units; i++)
		begin_unit(job, &desk->units[i], first + i, row, n_rows, desk);
	look_ahead(job, begin, end, desk);
	for (size_t t = begin; t < end; t += job->tile) {
		size_t n = end - t < job->tile ? end - t : job->tile;

		ds_ask(&desk->ahead, DS_ASK_ALL);
		look_ahead(job, t + n, end, desk);
		find_rows(job, job->keys.kv, row, t, t + n, desk->keys);
		if (job->values.kv != job->keys.kv)
			find_rows(job, job->values.kv, row, t, t + n, desk->values);
		for (size_t i = 0; i < desk->n_units; i++)
			attend_tile(job, i, row, t, n, desk);
	}
	for (size_t i = 0; i < desk->n_units; i++)
		end_unit(job, &desk->units[i], row, share);
}

/* The last rows, which see most, come first. */
static void attention_pieces(void *arg, size_t first, size_t last, unsigned member)
{
	const struct job *job = arg;
	struct desk *desk = lay_out(job, member);

	for (size_t i = first; i < last; i++) {
		size_t share = i % job->n_shares, chunk = i / job->n_shares % job->n_chunks;
		size_t row = (job->n_blocks - 1 - i / job->n_shares / job->n_chunks) * job->block_rows;
		size_t end = row + job->block_rows < job->rows->n ? row + job->block_rows : job->rows->n;

		for (size_t next; row < end; row = next) {
			for (next = row + 1; next < end && job->rows->pages[next] == job->rows->pages[row];)
				next++;
			attend(job, row, next - row, chunk * job->units_taken, share, desk);
		}
	}
}

/* ---- how the work is divided ---- */

/* The mean number of rows of a sequence that follow one another, and the largest number of positions a row sees. */
static void survey(const struct ds_rows *rows, size_t *run, size_t *n_seen)
{
	size_t n_runs = 1;

	*n_seen = (size_t)rows->positions[0] + 1;
	for (size_t r = 1; r < rows->n; r++) {
		n_runs += rows->pages[r] != rows->pages[r - 1];
		if (*n_seen <= rows->positions[r])
			*n_seen = (size_t)rows->positions[r] + 1;
	}
	*run = (rows->n + n_runs - 1) / n_runs;
}

/* Shares, and as many units a piece as the scratch holds; one share if the team has enough to do or the rest is too
 * little. */
static void divide_positions(struct job *job, size_t n_seen, size_t n_wanted)
{
	size_t team = ds_team_size(job->cpu->team), n = n_seen / MIN_SHARE, wanted, a_member;

	job->units_taken = (HALF - desk_room(job)) / (unit_room(job) + sums_room(job));
	if (job->units_taken > job->n_units)
		job->units_taken = job->n_units;
	if (job->units_taken > 0) {
		job->n_chunks = (job->n_units + job->units_taken - 1) / job->units_taken;
		a_member = shares_a_member(job);
		wanted = n_wanted / (job->n_blocks * job->n_chunks);
		n = n < wanted ? n : wanted;
		n = n < a_member * team / job->n_blocks ? n : a_member * team / job->n_blocks;
		job->n_shares = n - n % team;
		if (job->n_shares > 1)
			return;
	}
	job->n_shares = 1;
	job->units_taken = 1;
	job->n_chunks = job->n_units;
}

static enum form choose_form(const struct job *job)
{
	const struct ds_attend_kernels *kernels = &job->cpu->kernels.attend;
	enum ds_dtype dtype = job->keys.kv->dtype;

	if (dtype == DS_DTYPE_F32)
		return AS_IS;
	if (dtype == DS_DTYPE_BF16 && kernels->mix_bf16 && job->keys.cols % 2 == 0 && job->values.cols % 32 == 0)
		return AS_BF16;
	if (dtype == DS_DTYPE_Q8_0 && kernels->mix_q8_0 && job->keys.cols <= DS_ATTEND_Q8_COLS)
		return AS_Q8_0;
	return WIDENED;
}

static void run(struct ds_cpu *cpu, struct job *job)
{
	size_t wanted = (size_t)PIECES_A_MEMBER * ds_team_size(cpu->team), run_length, n_seen, most, heads;

	if (job->rows->n == 0)
		return;
	job->cpu = cpu;
	job->form = choose_form(job);
	choose_tile(job);
	survey(job->rows, &run_length, &n_seen);
	heads = job->n_sharing < job->most_queries ? job->n_sharing : job->most_queries;
	most = job->most_queries / heads < run_length ? job->most_queries / heads : run_length;
	job->unit_heads = heads;
	job->block_rows = most;
	for (;;) {
		job->units_a_group = (job->n_sharing + job->unit_heads - 1) / job->unit_heads;
		job->n_units = job->n_heads / job->n_sharing * job->units_a_group;
		job->n_blocks = (job->rows->n + job->block_rows - 1) / job->block_rows;
		divide_positions(job, n_seen, wanted);
		if (job->n_shares > 1 || job->n_blocks * job->n_chunks >= wanted)
			break;
		/* smaller pieces, so that everybody has some */
		if (job->block_rows > 1)
			job->block_rows = (job->block_rows + 1) / 2;
		else if (job->unit_heads > DS_ATTEND_FEW)
			job->unit_heads = (job->unit_heads + 1) / 2;
		else
			break;
	}
	ds_team_run(cpu->team, job->n_blocks * job->n_chunks * job->n_shares, 1, attention_pieces, job);
	if (job->n_shares > 1)
		ds_team_run(cpu->team, job->rows->n * job->n_heads, 8, join_shares, job);
}

void ds_cpu_latent_attention(void *self, const struct ds_latent_attention *op)
{
	struct job job = {
		.rows = op->rows,
		.keys = {op->kv, (size_t)op->kv_lora + op->qk_rope},
		.values = {op->kv, op->kv_lora},
		.parts = {{op->q, (size_t)op->n_heads * op->kv_lora, op->kv_lora, op->kv_lora},
			  {op->q_rope, op->q_rope_row_stride, op->q_rope_head_stride, op->qk_rope}},
		.y = op->z,
		.y_stride = (size_t)op->n_heads * op->kv_lora,
		.scale = op->scale,
		.n_heads = op->n_heads,
		.n_sharing = op->n_heads,
	};

	run(self, &job);
}

void ds_cpu_attention(void *self, const struct ds_attention *op)
{
	struct job job = {
		.rows = op->rows,
		.keys = {op->k, op->head_dim},
		.values = {op->v, op->head_dim},
		.parts = {{op->q, (size_t)op->n_heads * op->head_dim, op->head_dim, op->head_dim}},
		.y = op->y,
		.y_stride = (size_t)op->n_heads * op->head_dim,
		.scale = op->scale,
		.n_heads = op->n_heads,
		.n_sharing = op->n_heads / op->n_kv_heads,
	};

	run(self, &job);
}

void ds_cpu_heads_attention(struct ds_cpu *cpu, const struct ds_heads_attention *op)
{
	struct job job = {
		.rows = op->rows,
		.keys = {op->k, op->key_cols},
		.values = {op->v, op->value_cols},
		.parts = {{op->q, op->q_stride, op->q_head_stride, op->key_cols}},
		.y = op->y,
		.y_stride = op->y_stride,
		.scale = op->scale,
		.n_heads = op->n_heads,
		.n_sharing = 1,
	};

	run(cpu, &job);
}
