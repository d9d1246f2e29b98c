/* ds-loader - reads a checkpoint from descriptors it is given, fills the model image or answers dsctl, and exits. */
#include "helper-main.h"
#include "loader.h"

int main(int argc, char **argv)
{
	static const struct ds_helper loader = {
		.name = "ds-loader",
		.kinds = DS_KIND(DS_PLUGIN_FORMAT) | DS_KIND(DS_PLUGIN_BACKEND) | DS_KIND(DS_PLUGIN_TOKENIZER) |
			 DS_KIND(DS_PLUGIN_DIALECT),
		.sandbox = DS_SANDBOX_LOADER,
		.caller_sandbox = DS_SANDBOX_CALLER,
		.serve = ds_loader_serve,
	};

	return ds_helper_main(&loader, argc, argv);
}
