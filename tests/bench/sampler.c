/* sampler.c - what the choice of a token costs: sampler PLUGINDIR [VOCABULARY [LOGITS]]
 *
 * Everything between the logits in the backend's memory and the token, for each of some settings: the copy that read()
 * makes, the check for numbers, the list of candidates, the chain of the sampler plugin found in PLUGINDIR. Logits are of
 * three kinds: a few stand out, as of a trained model; a normal distribution, as of random weights; all equal. Prints the
 * median and the best of some hundred tokens in microseconds. LOGITS, a file of floats, comes instead of the first. */
#include "answer.h"
#include "chain.h"
#include "engine.h"

#include <err.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define VOCABULARY 151936
#define ROUNDS 201

static const struct {
	const char *name, *json;
} settings[] = {
	{"greedy", "{\"temperature\": 0}"},
	{"temperature 0.6, top_p 0.95", "{\"temperature\": 0.6, \"top_p\": 0.95}"},
	{"temperature 1", "{}"},
	{"top_k 40", "{\"top_k\": 40}"},
	{"top_k 40, top_p 0.95", "{\"temperature\": 0.8, \"top_k\": 40, \"top_p\": 0.95}"},
	{"min_p 0.05", "{\"min_p\": 0.05}"},
	{"penalties, top_p", "{\"temperature\": 0.6, \"top_p\": 0.95, \"repetition_penalty\": 1.1, \"presence_penalty\": 0.5}"},
};

static const char *const shapes[] = {"words", "normal", "equal"};

/* Of this thread: others may be at work on this machine. */
static double microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

static double uniform(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return ((double)(*state >> 11) + 0.5) * 0x1p-53;
}

static void fill(float *logits, uint32_t n, unsigned shape)
{
	uint64_t state = 7;

	for (uint32_t i = 0; i < n; i++) {
		double normal = sqrt(-2 * log(uniform(&state))) * cos(2 * M_PI * uniform(&state));

		logits[i] = shape == 0 ? (float)(2.2 * normal - 3) : shape == 1 ? (float)normal : 1;
	}
	for (unsigned i = 0; shape == 0 && i < 100; i++)
		logits[(i * 1511u + 17) % n] = 18 - 4 * log2f((float)i + 1);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void report(const char *name, const char *shape, double *times, uint32_t id)
{
	qsort(times, ROUNDS, sizeof(*times), by_size);
	printf("%-30s %-8s %8.0f %8.0f   last %u\n", name, shape, times[ROUNDS / 2], times[0], id);
}

static void measure_logprobs(const struct ds_engine *engine, const char *shape, const float *logits)
{
	const struct ds_answer_options options = {.n_logprobs = 20};
	struct ds_outlet *outlet = NULL;
	struct ds_outbox *outbox = NULL;
	struct ds_answer *answer = NULL;
	struct ds_error error;
	double times[ROUNDS];

	if (ds_outbox_new(&outbox, &error) < 0 || ds_outbox_open(outbox, 1, &outlet, &error) < 0 ||
	    ds_answer_new(&answer, engine, outlet, &options, &error) < 0)
		errx(1, "%s", error.text);
	ds_outbox_cancel(outbox, 1); /* nobody reads what is written */
	for (unsigned i = 0; i < ROUNDS; i++) {
		double begin = microseconds();

		ds_answer_note_logprobs(answer, 1, logits);
		times[i] = microseconds() - begin;
	}
	report("20 logprobs, besides", shape, times, 1);
	ds_answer_free(answer);
	ds_outbox_free(outbox);
}

static void measure(const struct ds_engine *engine, const char *name, const char *json, const char *shape,
		    const float *device, float *logits, struct ds_choice *choice)
{
	json_t *sampling = json_loads(json, 0, NULL);
	struct ds_failure failure;
	struct ds_chain *chain = NULL;
	double times[ROUNDS];
	uint32_t vocab = engine->hparams->vocab, id = 0;

	json_object_set_new(sampling, "seed", json_integer(1));
	if (ds_chain_new(&chain, engine, sampling, &failure) < 0)
		errx(1, "%s", failure.error.text);
	for (unsigned i = 0; i < ROUNDS; i++) {
		double begin = microseconds();

		memcpy(logits, device, vocab * sizeof(*logits));
		if (!ds_are_numbers(logits, vocab))
			errx(1, "the logits are no numbers");
		id = ds_chain_pick(chain, logits, choice);
		ds_chain_accept(chain, id);
		times[i] = microseconds() - begin;
	}
	report(name, shape, times, id);
	ds_chain_free(chain);
	json_decref(sampling);
}

int main(int argc, char **argv)
{
	static const char *const names[] = {"sampler-core", NULL};
	struct ds_hparams hparams = {.vocab = argc > 2 ? (uint32_t)atoi(argv[2]) : VOCABULARY};
	struct ds_engine engine = {.hparams = &hparams};
	struct ds_plugins *plugins = NULL;
	struct ds_choice *choice = NULL;
	struct ds_error error;
	float *device = calloc(hparams.vocab, sizeof(*device)), *logits = calloc(hparams.vocab, sizeof(*logits));

	if (argc < 2 || !device || !logits || hparams.vocab == 0)
		errx(1, "usage: sampler PLUGINDIR [VOCABULARY [LOGITS]]");
	if (ds_plugins_open(&plugins, argv[1], names, DS_KIND(DS_PLUGIN_SAMPLER), &error) < 0)
		errx(1, "%s", error.text);
	engine.plugins = plugins;
	if (ds_choice_new(&choice, &engine, &error) < 0)
		errx(1, "%s", error.text);
	printf("%-30s %-8s %8s %8s   of %u logits, microseconds\n", "settings", "logits", "median", "best", hparams.vocab);
	for (unsigned shape = 0; shape < DS_ARRAY_SIZE(shapes); shape++) {
		FILE *file = shape == 0 && argc > 3 ? fopen(argv[3], "r") : NULL;

		fill(device, hparams.vocab, shape);
		if (file && fread(device, sizeof(*device), hparams.vocab, file) != hparams.vocab)
			errx(1, "%s has fewer logits", argv[3]);
		if (file)
			fclose(file);
		for (unsigned i = 0; i < DS_ARRAY_SIZE(settings); i++)
			measure(&engine, settings[i].name, settings[i].json, shapes[shape], device, logits, choice);
		measure_logprobs(&engine, shapes[shape], device);
	}
	ds_choice_free(choice);
	ds_plugins_free(plugins);
	free(device);
	free(logits);
	return 0;
}
