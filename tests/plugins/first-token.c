/* first-token.c - a sampler that keeps the candidate with the lowest id, built once right and once for each way of
 * being wrong: NAME and ABI are what the plugin says of itself, SYMBOL is where, EXPECTED what its vector promises. */
#include <deepseekd/sampler.h>

#ifndef ABI
#define ABI DS_PLUGIN_ABI
#endif
#ifndef SYMBOL
#define SYMBOL ds_plugin
#endif
#ifndef EXPECTED
#define EXPECTED "{\"ids\": [0]}"
#endif

static bool active(const struct ds_setting *settings)
{
	return true;
}

static int open_step(void **self, const struct ds_host *host, const struct ds_setting *settings, uint64_t seed,
		     size_t vocab, struct ds_error *err)
{
	*self = NULL;
	return 0;
}

static void apply(void *self, struct ds_candidates *candidates)
{
	for (size_t i = 1; i < candidates->n; i++)
		if (candidates->ids[i] < candidates->ids[0]) {
			candidates->ids[0] = candidates->ids[i];
			candidates->logits[0] = candidates->logits[i];
		}
	candidates->n = 1;
}

static void close_step(void *self)
{
}

static const struct ds_sampler_ops ops = {
	.size = sizeof(ops), .active = active, .open = open_step, .apply = apply, .close = close_step};

static const struct ds_entry entries[] = {{"first", "the lowest id", &ops}, {NULL, NULL, NULL}};

static const struct ds_option options[] = {
	{.name = "eagerness", .help = "does nothing", .type = DS_OPTION_INT, .value = 3, .min = 0, .max = 5},
	{.name = NULL},
};

static const struct ds_vector vectors[] = {
	{"one candidate stays as it is", "first", "{\"logits\": [1]}",
	 "{\"ids\": [0], \"logits\": [1], \"picked\": null}"},
	{"the lowest id wins", "first", "{\"logits\": [1, 3, 2]}", EXPECTED},
	{NULL, NULL, NULL, NULL},
};

__attribute__((visibility("default"))) extern const struct ds_plugin SYMBOL;
const struct ds_plugin SYMBOL = {
	.abi = ABI,
	.kind = DS_PLUGIN_SAMPLER,
	.name = NAME,
	.version = "1",
	.summary = "for tests",
	.options = options,
	.vectors = vectors,
	.entries = entries,
};
