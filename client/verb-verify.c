/* verb-verify.c - dsctl verify: does this model, on this machine, compute what it should?
 *
 * The tokens of reference vectors are run through the daemon's ordinary scheduler four ways that must not differ: in
 * one prefill, in odd pieces, one token at a time, and beside a second sequence. */
#include "output.h"
#include "vectors.h"
#include "verb.h"

#include <math.h>
#include <string.h>

struct options {
	const char *vectors;
	struct ds_number tolerance;
};

static const struct way {
	const char *name;
	size_t n_chunks;
	int chunks[2];
	bool beside; /* a second sequence runs at the same time */
} ways[] = {
	{"one prefill", 0, {0}, false},
	{"chunks of 7 and 41", 2, {7, 41}, false},
	{"token by token", 1, {1}, false},
	{"beside another", 0, {0}, true},
};

/* Logits as they arrive: [n] floats, of which @size bytes are there. */
struct receiver {
	float *logits;
	size_t n, size;
};

static int on_logits(void *self, const char *data, size_t size, struct ds_error *err)
{
	struct receiver *to = self;

	if (size > to->n * sizeof(float) - to->size)
		return ds_fail(err, -EPROTO,
			       "the daemon gave more logits than the %zu asked; is it the model of these vectors?",
			       to->n);
	memcpy((char *)to->logits + to->size, data, size);
	to->size += size;
	return 0;
}

static json_t *request(const struct ds_vectors *v, const struct way *way, bool mtp)
{
	json_t *chunks = json_array();

	for (size_t i = 0; i < way->n_chunks; i++)
		json_array_append_new(chunks, json_integer(way->chunks[i]));
	return json_pack("{s:O, s:o, s:i, s:b}", "tokens", v->input_ids, "chunks", chunks, "greedy",
			 mtp ? 0 : (int)v->n_greedy, "mtp", mtp);
}

/* The same work on other tokens: the input backwards, in pieces of 5. */
static json_t *other_request(const struct ds_vectors *v, bool mtp)
{
	json_t *tokens = json_array();

	for (size_t i = v->n_tokens; i-- > 0;)
		json_array_append(tokens, json_array_get(v->input_ids, i));
	return json_pack("{s:o, s:[i], s:i, s:b}", "tokens", tokens, "chunks", 5, "greedy", mtp ? 0 : (int)v->n_greedy,
			 "mtp", mtp);
}

static int drop(void *self, const char *data, size_t size, struct ds_error *err)
{
	return 0;
}

/* Run one way; @to has room for all rows and is full on success. */
static int evaluate(struct ds_client *client, const char *path, const struct ds_vectors *v, const struct way *way,
		    bool mtp, struct receiver *to, struct ds_error *err)
{
	ds_cleanup(ds_json_freep) json_t *body = request(v, way, mtp);
	ds_cleanup(ds_json_freep) json_t *other = other_request(v, mtp);
	struct ds_exchange e[] = {
		{.method = "POST", .path = path, .body = body, .on_data = on_logits, .self = to},
		{.method = "POST", .path = path, .body = other, .on_data = drop},
	};
	int r;

	if (!body || !other)
		return ds_fail(err, -ENOMEM, "no memory for a request");
	r = ds_http_perform(client->http, e, way->beside ? 2 : 1, err);
	for (size_t i = 0; i < DS_ARRAY_SIZE(e); i++)
		ds_exchange_deinit(&e[i]);
	if (r == 0 && to->size != to->n * sizeof(float))
		r = ds_fail(err, -EPROTO, "the daemon gave %zu logits, not %zu; is it the model of these vectors?",
			    to->size / sizeof(float), to->n);
	return r;
}

static int run_way(struct ds_client *client, const char *path, const struct ds_vectors *v, const struct way *way,
		   bool mtp, double tolerance, struct ds_comparison *out, struct ds_error *err)
{
	const struct ds_reference *ref = mtp ? &v->mtp : &v->main;
	size_t n_rows = ref->n_rows + (!mtp && v->n_greedy > 0 ? v->n_greedy - 1 : 0);
	struct receiver to = {.n = n_rows * ref->n_vocab};
	ds_cleanup(ds_freep) float *logits = NULL;
	int r;

	to.logits = logits = calloc(to.n, sizeof(*logits));
	if (!logits)
		return ds_fail(err, -ENOMEM, "no memory for %zu logits", to.n);
	r = evaluate(client, path, v, way, mtp, &to, err);
	if (r < 0)
		return r;
	ds_vectors_compare(ref, logits, tolerance, out);
	if (!mtp)
		ds_vectors_compare_greedy(v, logits + (ref->n_rows - 1) * ref->n_vocab, tolerance, out);
	return 0;
}

static void add_agreement(struct ds_table *t, const struct ds_agreement *a)
{
	if (a->n_near_ties > 0)
		ds_table_add(t, "%zu/%zu (%zu near ties)", a->n_agreed, a->n_counted, a->n_near_ties);
	else if (a->n_counted > 0)
		ds_table_add(t, "%zu/%zu", a->n_agreed, a->n_counted);
	else
		ds_table_add(t, "%s", "");
}

static json_t *agreement_json(const struct ds_agreement *a)
{
	return json_pack("{s:I, s:I, s:I}", "counted", (json_int_t)a->n_counted, "agreed", (json_int_t)a->n_agreed,
			 "near_ties", (json_int_t)a->n_near_ties);
}

static void add_way(struct ds_table *t, json_t *list, const struct way *way, bool mtp, const struct ds_reference *ref,
		    const struct ds_comparison *c)
{
	ds_table_add(t, "%s%s", way->name, mtp ? ", MTP block" : "");
	ds_table_add(t, "%zu", ref->n_rows);
	ds_table_add(t, "%.2e", c->max_difference);
	add_agreement(t, &c->argmax);
	add_agreement(t, &c->greedy);
	ds_table_add(t, "%s", c->holds ? "holds" : "FAILS");
	/* JSON has no NaN: null. */
	json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:o, s:o, s:o, s:b}", "name", way->name, "block",
					      mtp ? "mtp" : "main", "rows", (json_int_t)ref->n_rows, "max_difference",
					      isfinite(c->max_difference) ? json_real(c->max_difference) : json_null(),
					      "argmax", agreement_json(&c->argmax), "greedy",
					      agreement_json(&c->greedy), "holds", c->holds));
}

static int run_all(struct ds_client *client, const char *path, const struct ds_vectors *v, double tolerance,
		   struct ds_table *t, json_t *list, bool *hold, struct ds_error *err)
{
	struct ds_comparison c;
	int r;

	for (int mtp = 0; mtp <= (v->mtp.logits != NULL); mtp++)
		for (size_t i = 0; i < DS_ARRAY_SIZE(ways); i++) {
			r = run_way(client, path, v, &ways[i], mtp, tolerance, &c, err);
			if (r < 0)
				return r;
			add_way(t, list, &ways[i], mtp, mtp ? &v->mtp : &v->main, &c);
			*hold &= c.holds;
		}
	return 0;
}

static int verify(struct ds_client *client, const void *options, char *const *args, struct ds_error *err)
{
	static const char *const heads[] = {"WAY", "ROWS", "MAX DIFFERENCE", "ARGMAX", "GREEDY", "RESULT"};
	ds_cleanup(ds_table_deinit) struct ds_table t = {.n_columns = DS_ARRAY_SIZE(heads)};
	ds_cleanup(ds_vectors_deinit) struct ds_vectors v = {0};
	ds_cleanup(ds_freep) char *path = ds_http_model_path(args[0], "evaluate");
	ds_cleanup(ds_json_freep) json_t *list = json_array();
	const struct options *o = options;
	double tolerance = o->tolerance.given ? o->tolerance.value : 5e-4;
	bool hold = true;
	int r;

	if (!o->vectors)
		return ds_fail(err, -EINVAL, "--vectors DIR is missing: the folder of an expected.json");
	if (tolerance < 0)
		return ds_fail(err, -EINVAL, "--tolerance: it must not be negative");
	if (!path || !list)
		return ds_fail(err, -ENOMEM, "no memory");
	r = ds_vectors_read(&v, o->vectors, err);
	for (size_t i = 0; i < DS_ARRAY_SIZE(heads); i++)
		ds_table_add(&t, "%s", heads[i]);
	if (r == 0)
		r = run_all(client, path, &v, tolerance, &t, list, &hold, err);
	if (r < 0)
		return r;
	if (client->json) {
		ds_cleanup(ds_json_freep) json_t *whole = json_pack(
			"{s:s, s:f, s:b, s:O}", "model", args[0], "tolerance", tolerance, "holds", hold, "ways", list);

		r = ds_output_json(whole, false, err);
	} else {
		r = ds_table_print(&t, client->legend, err);
	}
	if (r == 0 && !hold)
		r = ds_fail(err, -EBADMSG, "%s does not hold its vectors within %g", args[0], tolerance);
	return r;
}

static const struct ds_flag flags[] = {
	{"vectors", 0, DS_FLAG_TEXT, offsetof(struct options, vectors), "DIR",
	 "the folder of expected.json and its logits"},
	{"tolerance", 0, DS_FLAG_NUMBER, offsetof(struct options, tolerance), "X",
	 "the greatest difference of a logit (5e-4)"},
	{0},
};

const struct ds_verb ds_verb_verify = {
	.name = "verify",
	.usage = "NAME --vectors DIR",
	.help = "Compare what a model computes with reference vectors, four ways",
	.flags = flags,
	.options_size = sizeof(struct options),
	.min_args = 1,
	.max_args = 1,
	.run = verify,
};
