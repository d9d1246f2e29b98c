/* core.c - sampler-core: the steps every model needs, in the order in which they are run.
 *
 * Temperature comes before top_p and min_p, as in Hugging Face and vLLM, because DeepSeek's recommended settings
 * (temperature 0.6, top_p 0.95) mean that order: the nucleus is that of the tempered distribution. */
#include "core.h"

static const struct ds_option options[] = {
	{.name = "temperature",
	 .help = "how freely to choose; 0 always takes the most likely token",
	 .type = DS_OPTION_FLOAT, .value = DEFAULT_TEMPERATURE, .min = 0, .max = 2},
	{.name = "top_k",
	 .help = "choose among this many of the most likely tokens; 0 means all",
	 .type = DS_OPTION_INT, .value = DEFAULT_TOP_K, .min = 0, .max = 1000000},
	{.name = "top_p",
	 .help = "choose among the fewest most likely tokens that have this much probability together",
	 .type = DS_OPTION_FLOAT, .value = DEFAULT_TOP_P, .min = 0, .max = 1},
	{.name = "min_p",
	 .help = "choose among tokens at least this many times as likely as the most likely one",
	 .type = DS_OPTION_FLOAT, .value = DEFAULT_MIN_P, .min = 0, .max = 1},
	{.name = "repetition_penalty",
	 .help = "divides the logits of tokens of prompt and answer; above 1 makes repetition less likely",
	 .type = DS_OPTION_FLOAT, .value = DEFAULT_REPETITION, .min = 0.1, .max = 10},
	{.name = "presence_penalty",
	 .help = "lowers the logits of tokens that the answer already has",
	 .type = DS_OPTION_FLOAT, .value = DEFAULT_PRESENCE, .min = -2, .max = 2},
	{.name = "frequency_penalty",
	 .help = "lowers the logits of tokens for every time that the answer already has them",
	 .type = DS_OPTION_FLOAT, .value = DEFAULT_FREQUENCY, .min = -2, .max = 2},
	{.name = NULL},
};

static const struct ds_vector vectors[] = {
	{.name = "a repeated token is divided above zero and multiplied below",
	 .entry = "penalties",
	 .input = "{\"settings\": {\"repetition_penalty\": 2}, \"seed\": 1, \"logits\": [3, -3, 3, -3],"
		  " \"history\": [0, 1, 0]}",
	 .output = "{\"logits\": [1.5, -6, 3, -3]}"},
	{.name = "the prompt is not the answer: presence and frequency leave it alone",
	 .entry = "penalties",
	 .input = "{\"settings\": {\"presence_penalty\": 2, \"frequency_penalty\": 2}, \"seed\": 1,"
		  " \"logits\": [1, 2], \"history\": [0, 0]}",
	 .output = "{\"logits\": [1, 2]}"},
	{.name = "temperature divides",
	 .entry = "temperature",
	 .input = "{\"settings\": {\"temperature\": 0.5}, \"seed\": 1, \"logits\": [1, -2, 0], \"history\": []}",
	 .output = "{\"ids\": [0, 1, 2], \"logits\": [2, -4, 0]}"},
	{.name = "top_k keeps the best, and the lower id of a tie",
	 .entry = "top_k",
	 .input = "{\"settings\": {\"top_k\": 3}, \"seed\": 1, \"logits\": [1, 5, 1, -7, 9, 1], \"history\": []}",
	 .output = "{\"ids\": [0, 1, 4], \"logits\": [1, 5, 9]}"},
	{.name = "top_p keeps the token that crosses the bound",
	 .entry = "top_p", /* probabilities 0.1, 0.5, 0.25, 0.15 */
	 .input = "{\"settings\": {\"top_p\": 0.6}, \"seed\": 1,"
		  " \"logits\": [-2.3025851, -0.6931472, -1.3862944, -1.8971200], \"history\": []}",
	 .output = "{\"ids\": [1, 2]}"},
	{.name = "min_p is relative to the best",
	 .entry = "min_p",
	 .input = "{\"settings\": {\"min_p\": 0.25}, \"seed\": 1,"
		  " \"logits\": [-2.3025851, -0.6931472, -1.3862944, -1.8971200], \"history\": []}",
	 .output = "{\"ids\": [1, 2, 3]}"},
	{.name = "at temperature 0 the lowest id wins a tie",
	 .entry = "pick",
	 .input = "{\"settings\": {\"temperature\": 0}, \"seed\": 1, \"logits\": [1, 7, -1, 7], \"history\": []}",
	 .output = "{\"picked\": 1}"},
	{.name = "the draw of a seed",
	 .entry = "pick",
	 .input = "{\"settings\": {}, \"seed\": 42, \"logits\": [0, 0, 0, 0, 0, 0, 0, 0, 0, 0], \"history\": []}",
	 .output = "{\"picked\": 0}"},
	{.name = NULL},
};

static const struct ds_entry entries[] = {
	{.name = "penalties", .summary = "makes repetition less likely", .ops = &ds_penalties_ops},
	{.name = "temperature", .summary = "flattens or sharpens the distribution", .ops = &ds_temperature_ops},
	{.name = "top_k", .summary = "keeps the k most likely tokens", .ops = &ds_top_k_ops},
	{.name = "top_p", .summary = "keeps the nucleus of the distribution", .ops = &ds_top_p_ops},
	{.name = "min_p", .summary = "drops what is unlikely beside the best", .ops = &ds_min_p_ops},
	{.name = "pick", .summary = "draws the token, or takes the best at temperature 0", .ops = &ds_pick_ops},
	{.name = NULL},
};

DS_PLUGIN(.kind = DS_PLUGIN_SAMPLER, .name = "sampler-core", .version = PACKAGE_VERSION,
	  .summary = "penalties, temperature, top-k, top-p, min-p and the draw",
	  .options = options, .vectors = vectors, .entries = entries);
