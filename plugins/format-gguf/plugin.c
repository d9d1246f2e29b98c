/* plugin.c - the format plugin for GGUF: one file, or a split set. */
#include "gguf.h"

#include "vectors.h"

static const struct ds_vector vectors[] = {
	{
		.name = "a file of one layer of grouped-query attention is described",
		.entry = "gguf",
		.input = "{\"files\": {\"one.gguf\": {\"hex\": \"" LLAMA_HEX "\"}}}",
		.output = "{\"architecture\": \"llama\", \"n_tokens\": 3, \"tensors\": {"
			  "\"token_embedding\": [3, 4], \"output_norm\": [4], "
			  "\"layers.0.attention_norm\": [4], \"layers.0.q\": [4, 4], \"layers.0.k\": [2, 4], "
			  "\"layers.0.v\": [2, 4], \"layers.0.attention_output\": [4, 4], \"layers.0.ffn_norm\": [4], "
			  "\"layers.0.ffn_gate\": [1, 4], \"layers.0.ffn_up\": [1, 4], \"layers.0.ffn_down\": [4, 1]}}",
	},
	{
		.name = "a file that ends in the middle of its header is refused",
		.entry = "gguf",
		.input = "{\"files\": {\"one.gguf\": {\"hex\": \"4747554603000000000000000000000001\"}}}",
		.output = "{\"error\": \"one.gguf: ends at byte 17, in the middle of the header\"}",
	},
	{
		.name = "a big-endian file is refused",
		.entry = "gguf",
		.input = "{\"files\": {\"one.gguf\": {\"hex\": \"474755460000000300000000000000000000000000000000\"}}}",
		.output = "{\"error\": \"big-endian\"}",
	},
	{
		.name = "an architecture that is not supported is refused by name",
		.entry = "gguf",
		.input = "{\"files\": {\"one.gguf\": {\"hex\": \"" MAMBA_HEX "\"}}}",
		.output = "{\"error\": \"architecture mamba is not supported\"}",
	},
	{},
};

static const struct ds_entry entries[] = {
	{"gguf", "GGUF files, versions 2 and 3, also split ones", &ds_gguf_ops},
	{},
};

DS_PLUGIN(.kind = DS_PLUGIN_FORMAT, .name = "format-gguf", .version = PACKAGE_VERSION,
	  .summary = "reads GGUF files of DeepSeek V2, V3 and R1, and of the models distilled from it",
	  .vectors = vectors, .entries = entries);
