/* checkpoint.c - describes a whole checkpoint to the loader: config, vocabulary, template, tensors, in this order. */
#include "checkpoint.h"

static void checkpoint_deinit(struct ds_checkpoint *c)
{
	for (size_t i = 0; i < c->n_stored; i++)
		free(c->stored[i].name);
	free(c->stored);
	json_decref(c->config);
	json_decref(c->generation);
	json_decref(c->tokenizer);
	json_decref(c->tokenizer_config);
}

static int describe_words(const struct ds_checkpoint *c, const struct ds_builder *builder, struct ds_error *err)
{
	ds_cleanup(ds_words_deinit) struct ds_words words = {};
	ds_cleanup(ds_freep) char *chat_template = NULL;
	int r;

	r = ds_tokenizer_read(&words, c, err);
	if (r < 0)
		return r;
	r = builder->vocabulary(builder->self, &words.vocabulary, err);
	if (r < 0)
		return r;
	r = ds_template_read(&chat_template, c, err);
	return r < 0 ? r : builder->chat_template(builder->self, chat_template, err);
}

/* The files beside config.json that tell of text. */
static int load_words(struct ds_checkpoint *c, struct ds_error *err)
{
	int r = ds_json_load(&c->tokenizer, c, "tokenizer.json", 0, err);

	if (r == 0)
		/* Many say in it that texts may have 10^30 tokens; nothing that is read of it is a number. */
		r = ds_json_load(&c->tokenizer_config, c, "tokenizer_config.json", JSON_DECODE_INT_AS_REAL, err);
	if (r == 0)
		r = ds_json_load(&c->generation, c, "generation_config.json", 0, err);
	return r;
}

/* Without config.json nobody says how many rows the embedding has: the vocabulary ends with its last token. */
static int describe_vocabulary(struct ds_checkpoint *c, const struct ds_builder *builder, struct ds_error *err)
{
	int r = load_words(c, err);

	if (r == 0)
		r = ds_json_load(&c->config, c, "config.json", 0, err);
	if (r < 0)
		return r;
	if (!c->tokenizer)
		return ds_fail(err, -EINVAL, "there is no tokenizer.json");
	r = ds_tokenizer_count(&c->hparams.vocab, c, err);
	return r < 0 ? r : describe_words(c, builder, err);
}

static int describe(const struct ds_host *host, const struct ds_file *files, size_t n_files,
		    const struct ds_builder *builder, struct ds_error *err)
{
	ds_cleanup(checkpoint_deinit) struct ds_checkpoint c = {.files = files, .n_files = (uint32_t)n_files};
	int r;

	if (!builder->hparams)
		return describe_vocabulary(&c, builder, err);
	r = ds_config_read(&c, err);
	if (r < 0)
		return r;
	r = ds_shards_read(&c, err);
	if (r < 0)
		return r;
	c.hparams.n_mtp = ds_tensors_count_mtp(&c);
	r = builder->hparams(builder->self, &c.hparams, err);
	if (r < 0)
		return r;
	r = load_words(&c, err);
	if (r < 0)
		return r;
	if (c.tokenizer) {
		r = describe_words(&c, builder, err);
		if (r < 0)
			return r;
	}
	return ds_tensors_build(&c, builder, err);
}

const struct ds_format_ops ds_safetensors_ops = {
	.size = sizeof(ds_safetensors_ops),
	.recognizes = ds_shards_present,
	.describe = describe,
};
