/* main.c - ds-engine: maps one model image and answers for it. The backend's threads and the engine's own come with MAP. */
#include "helper-main.h"
#include "serve.h"

int main(int argc, char **argv)
{
	static const struct ds_helper engine = {
		.name = "ds-engine",
		.kinds = DS_KIND(DS_PLUGIN_TOKENIZER) | DS_KIND(DS_PLUGIN_BACKEND) | DS_KIND(DS_PLUGIN_SAMPLER) |
			 DS_KIND(DS_PLUGIN_DIALECT),
		.sandbox = DS_SANDBOX_ENGINE,
		.caller_sandbox = DS_SANDBOX_ENGINE,
		.serve = ds_serve,
	};

	return ds_helper_main(&engine, argc, argv);
}
