/* describe.c - describes a whole checkpoint to the loader: hyperparameters, vocabulary, template, tensors, in this order. */
#include "gguf.h"

static void gguf_deinit(struct ds_gguf *g)
{
	for (uint32_t i = 0; i < g->n_parts; i++) {
		free(g->parts[i].source.data);
		free(g->parts[i].keys);
	}
	free(g->parts);
	free(g->stored);
}

static int describe_words(const struct ds_gguf *g, const struct ds_builder *builder, struct ds_error *err)
{
	ds_cleanup(ds_gguf_words_deinit) struct ds_gguf_words words = {};
	int r = ds_gguf_read_words(&words, g, err);

	if (r < 0 || !words.vocabulary.tokenizer)
		return r;
	return builder->vocabulary(builder->self, &words.vocabulary, err);
}

static int describe(const struct ds_host *host, const struct ds_file *files, size_t n_files,
		    const struct ds_builder *builder, struct ds_error *err)
{
	ds_cleanup(gguf_deinit) struct ds_gguf g = {.files = files, .n_files = (uint32_t)n_files};
	int r = ds_gguf_read_files(&g, err);

	if (r == 0 && builder->hparams) {
		r = ds_gguf_read_config(&g, err);
		if (r == 0)
			r = builder->hparams(builder->self, &g.hparams, err);
	}
	if (r == 0)
		r = describe_words(&g, builder, err);
	if (r == 0 && builder->tensor)
		r = ds_gguf_build_tensors(&g, builder, err);
	return r;
}

const struct ds_format_ops ds_gguf_ops = {
	.size = sizeof(ds_gguf_ops),
	.recognizes = ds_gguf_present,
	.describe = describe,
};
