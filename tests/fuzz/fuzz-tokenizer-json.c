/* fuzz-tokenizer-json.c - the input is a tokenizer.json and, after a NUL, a tokenizer_config.json. */
#include "tests/checkpoint.h"

#include "plugins/format-safetensors/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char config[] =
	"{\"model_type\": \"deepseek_v2\", \"vocab_size\": 24, \"hidden_size\": 2, \"num_hidden_layers\": 1,"
	" \"num_attention_heads\": 1, \"intermediate_size\": 1, \"eos_token_id\": 1, \"bos_token_id\": 0}";
static const char shard[] = "\x4b\0\0\0\0\0\0\0"
			    "{\"model.embed_tokens.weight\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct checkpoint *c;
	const uint8_t *end = size ? memchr(data, 0, size) : NULL;
	size_t n = end ? (size_t)(end - data) : size;

	if (!c)
		c = calloc(1, sizeof(*c));
	checkpoint_text(c, "config.json", config);
	checkpoint_file(c, "model.safetensors", shard, sizeof(shard));
	checkpoint_file(c, "tokenizer.json", data, n);
	checkpoint_file(c, "tokenizer_config.json", end ? (const char *)end + 1 : "{}", end ? size - n - 1 : 2);
	checkpoint_describe(c, &ds_safetensors_ops);
	checkpoint_describe_vocabulary(c, &ds_safetensors_ops);
	return 0;
}
