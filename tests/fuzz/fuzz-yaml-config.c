/* fuzz-yaml-config.c - any bytes as deepseekd.yaml and as a model's file: an answer, or problems, never both. */
#include "../../daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ds_problems problems = {0};
	struct ds_config *config = NULL;
	int r = ds_config_parse(&config, "dir/f.yaml", (const char *)data, size, &problems);

	if ((r == 0) != (problems.n == 0) || (r == 0) != (config != NULL))
		abort();
	ds_problems_deinit(&problems);
	ds_config_unref(config);
	config = NULL;
	if (ds_config_parse(&config, "dir/f.yaml", "version: 1", 10, &problems) < 0)
		abort();
	r = ds_config_parse_model(config, "dir/m.yaml", (const char *)data, size, &problems);
	if ((r == 0) != (problems.n == 0))
		abort();
	ds_problems_deinit(&problems);
	ds_config_unref(config);
	return 0;
}
