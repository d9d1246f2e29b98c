/* fuzz-gguf.c - the input is a GGUF file: one of a model, or, where its size is odd, one that only a vocabulary is
 * wanted of. Where it has the marks of a split in it (the text "split.no"), it is given as both files of a set. */
#include "tests/checkpoint.h"

#include "plugins/format-gguf/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int take_text(void *self, const char *key, const char *text, struct ds_error *err)
{
	checkpoint_require(strlen(text) < 1u << 30, "a text without an end");
	return 0;
}

static int take_template(void *self, const char *text, struct ds_error *err)
{
	return take_text(self, "", text, err);
}

static void describe_words(struct checkpoint *c)
{
	struct ds_builder builder = {
		.size = sizeof(builder),
		.self = c,
		.vocabulary = checkpoint_vocabulary,
		.chat_template = take_template,
		.text = take_text,
	};

	c->hparams.vocab = UINT32_MAX;
	ds_gguf_ops.describe(NULL, c->files, c->n_files, &builder, &c->error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct checkpoint *one, *two;

	if (!one) {
		one = calloc(1, sizeof(*one));
		two = calloc(1, sizeof(*two));
	}
	checkpoint_file(one, "m.gguf", data, size);
	if (size % 2)
		describe_words(one);
	else
		checkpoint_describe(one, &ds_gguf_ops);
	if (memmem(data, size, "split.no", strlen("split.no"))) {
		size_t half = size / 2;

		checkpoint_file(two, "m-00001-of-00002.gguf", data, half);
		checkpoint_file(two, "m-00002-of-00002.gguf", data + half, size - half);
		checkpoint_describe(two, &ds_gguf_ops);
	}
	return 0;
}
