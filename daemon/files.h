/* files.h - opens the files of a registered checkpoint for a loader. The broker opens them and never reads them.
 *
 * Only paths that the administrator wrote into models.d come here, never one from a request. */
#pragma once

#include <deepseekd/base.h>

#define DS_FILES_MAX 4096

struct ds_files {
	char **names; /* [n]: base names, sorted */
	int *fds;     /* [n]: regular files, read-only */
	size_t n;
};

/* Open the *.safetensors and *.json of the directory @path, or the one file @path. Links are followed, as in the cache
 * of Hugging Face. Errors name the file. */
int ds_files_open(struct ds_files *files, const char *path, struct ds_error *err);
void ds_files_deinit(struct ds_files *files);
