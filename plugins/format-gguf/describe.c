/* describe.c - describes a whole checkpoint to the loader: hyperparameters, vocabulary, texts, tensors. */
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

/* Hand on what people and other programs may want to know, under the file's own names. */
static int describe_texts(const struct ds_gguf *g, const struct ds_builder *builder, struct ds_error *err)
{
	static const char *const keys[] = {"general.name", "tokenizer.chat_template", "tokenizer.ggml.pre"};
	int r = 0;

	for (size_t i = 0; builder->text && r == 0 && i < DS_ARRAY_SIZE(keys); i++) {
		ds_cleanup(ds_freep) char *copy = NULL;
		struct ds_gguf_text text = {};

		r = ds_gguf_text(&g->parts[0], keys[i], &text, err);
		if (r < 0 || !text.text)
			continue;
		if (memchr(text.text, 0, text.size))
			return ds_fail(err, -EINVAL, "%s: %s holds a NUL", ds_shown(g->parts[0].source.file->name).text,
				       keys[i]);
		copy = strndup(text.text, text.size);
		if (!copy)
			return ds_fail(err, -ENOMEM, "no memory for %s", keys[i]);
		r = builder->text(builder->self, keys[i], copy, err);
	}
	return r;
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
	if (r == 0)
		r = describe_texts(&g, builder, err);
	if (r == 0 && builder->tensor)
		r = ds_gguf_build_tensors(&g, builder, err);
	return r;
}

const struct ds_format_ops ds_gguf_ops = {
	.size = sizeof(ds_gguf_ops),
	.recognizes = ds_gguf_present,
	.describe = describe,
};
