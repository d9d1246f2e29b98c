/* plugin.c - what the file exports. */
#include "cpu.h"

static const struct ds_entry entries[] = {
	{.name = "cpu", .summary = "the machine's own processors", .ops = &ds_cpu_ops},
	{0},
};

static const struct ds_option options[] = {
	{.name = "threads",
	 .help = "threads that compute, for each model; 0 means as many as CPUs that the service may use",
	 .type = DS_OPTION_INT, .value = 0, .min = 0, .max = 1024},
	{0},
};

DS_PLUGIN(.kind = DS_PLUGIN_BACKEND, .name = "backend-cpu", .version = PACKAGE_VERSION,
	  .summary = "tensor operations on AVX-512, AVX2 or any CPU", .options = options, .vectors = ds_cpu_vectors,
	  .entries = entries);
