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

/* A text of the builder's, while it is handed on. */
struct named {
	const struct ds_builder *builder;
	const char *key;
};

/* Call @take with the text under @key, "" without it. */
static int hand_on(const struct ds_gguf *g, const char *key, int (*take)(void *, const char *, struct ds_error *),
		   void *self, struct ds_error *err)
{
	ds_cleanup(ds_freep) char *copy = NULL;
	struct ds_gguf_text text = {"", 0};
	int r = ds_gguf_text(&g->parts[0], key, &text, err);

	if (r < 0)
		return r;
	if (memchr(text.text, 0, text.size))
		return ds_fail(err, -EINVAL, "%s: %s holds a NUL", ds_shown(g->parts[0].source.file->name).text, key);
	copy = strndup(text.text, text.size);
	if (!copy)
		return ds_fail(err, -ENOMEM, "no memory for %s", key);
	return take(self, copy, err);
}

static int take_text(void *self, const char *text, struct ds_error *err)
{
	const struct named *n = self;

	return *text ? n->builder->text(n->builder->self, n->key, text, err) : 0;
}

/* The chat template, and what people and other programs may want to know. */
static int describe_texts(const struct ds_gguf *g, const struct ds_builder *builder, struct ds_error *err)
{
	static const char *const keys[] = {"general.name", "tokenizer.ggml.pre"};
	int r = 0;

	if (builder->chat_template)
		r = hand_on(g, "tokenizer.chat_template", builder->chat_template, builder->self, err);
	for (size_t i = 0; builder->text && r == 0 && i < DS_ARRAY_SIZE(keys); i++)
		r = hand_on(g, keys[i], take_text, &(struct named){builder, keys[i]}, err);
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
