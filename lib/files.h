/* files.h - opens the files of a checkpoint for a loader. Who opens them never reads them.
 *
 * In the broker only paths that the administrator wrote into models.d come here, never one from a request; in dsctl
 * what its user may open. */
#pragma once

#include <deepseekd/base.h>

#define DS_FILES_MAX 4096

struct ds_files {
	char **names; /* [n]: base names, sorted */
	int *fds;     /* [n]: regular files, read-only */
	size_t n;
};

/* Open the *.safetensors and *.json of the directory @path, or the one GGUF of a directory without *.safetensors; all files
 * of the set that a split GGUF @path belongs to (PREFIX-00001-of-00003.gguf), or the one file @path. Links are followed, as in the cache of Hugging Face. Errors name
 * the file. */
int ds_files_open(struct ds_files *files, const char *path, struct ds_error *err);
void ds_files_deinit(struct ds_files *files);
