/* fuzz-config.c - the input is a config.json. */
#include "tests/checkpoint.h"

#include "plugins/format-safetensors/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char shard[] = "\x4b\0\0\0\0\0\0\0"
			    "{\"model.embed_tokens.weight\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct checkpoint *c;

	if (!c)
		c = calloc(1, sizeof(*c));
	checkpoint_file(c, "config.json", data, size);
	checkpoint_file(c, "model.safetensors", shard, sizeof(shard));
	checkpoint_describe(c, &ds_safetensors_ops);
	return 0;
}
