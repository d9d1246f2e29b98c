/* plugin.c - tokenizer-spm: SentencePiece's BPE, the tokenizer of Llama 2 and of GGUF files that call theirs "llama". */
#include "spm.h"

static const char *token_text(void *self, uint32_t id, size_t *text_size)
{
	return ds_token_text(((const struct ds_spm *)self)->vocabulary, id, text_size);
}

static size_t detokenize(void *self, struct ds_detokenizer *state, uint32_t id, char *out)
{
	return ds_detokenize(((const struct ds_spm *)self)->vocabulary, state, id, out);
}

static size_t finish(void *self, struct ds_detokenizer *state, char *out)
{
	(void)self;
	return ds_detokenize_finish(state, out);
}

static const struct ds_tokenizer_ops ops = {
	.size = sizeof(ops),
	.open = ds_spm_open,
	.encode = ds_spm_encode,
	.token_text = token_text,
	.detokenize = detokenize,
	.finish = finish,
	.close = ds_spm_close,
};

/* U+0041 is a token, as is a byte of the same value; U+00E9 has only the tokens of its bytes. */
#define TOKENS \
	"\"tokens\": [{\"text\": \"<unk>\", \"special\": true, \"added\": true}, {\"text\": \"<s>\", \"special\": true, " \
	"\"added\": true}, {\"text\": \"\\u00c3\", \"byte\": true}, {\"text\": \"\\u00a9\", \"byte\": true}, " \
	"{\"text\": \"A\", \"byte\": true}, \" \", \"a\", \"b\", \"A\", \" a\", \"ab\", \" ab\", \"aa\"], " \
	"\"scores\": [0, 0, 0, 0, 0, -9, -9, -9, -9, -1, -2, -3, -2], \"unknown\": 0"
#define PLAIN "{\"vocabulary\": {" TOKENS "}, "
#define PREFIXED "{\"vocabulary\": {" TOKENS ", \"add_space_prefix\": true}, "

static const struct ds_vector vectors[] = {
	{.name = "the pair of the highest score is joined first, the leftmost of equals",
	 .entry = "spm",
	 .input = PLAIN "\"text\": \"aaab aab\", \"special\": false}",
	 .output = "{\"ids\": [12, 10, 9, 10]}"},
	{.name = "text begins as if a space came before it",
	 .entry = "spm",
	 .input = PREFIXED "\"text\": \"ab ab\", \"special\": false}",
	 .output = "{\"ids\": [11, 11]}"},
	{.name = "U+2581 is a space",
	 .entry = "spm",
	 .input = PLAIN "\"text\": \"A\\u2581ab\", \"special\": false}",
	 .output = "{\"ids\": [8, 11]}"},
	{.name = "what is no token becomes bytes, else unknown, once for a run",
	 .entry = "spm",
	 .input = PLAIN "\"text\": \"a\\u00e9zzA\", \"special\": false}",
	 .output = "{\"ids\": [6, 2, 3, 0, 8]}"},
	{.name = "in trusted text markup is a token, and text begins anew after it",
	 .entry = "spm",
	 .input = PREFIXED "\"text\": \"<s>ab\", \"special\": true}",
	 .output = "{\"ids\": [1, 11]}"},
	{.name = "in other text it is not",
	 .entry = "spm",
	 .input = PLAIN "\"text\": \"<s>\", \"special\": false}",
	 .output = "{\"ids\": [0]}"},
	{.name = "bytes become characters again",
	 .entry = "spm",
	 .input = PLAIN "\"ids\": [9, 2, 3, 4, 2, 7]}",
	 .output = "{\"text\": \" a\\u00e9A\\ufffdb\"}"},
	{.name = NULL},
};

static const struct ds_entry entries[] = {
	{.name = "spm", .summary = "SentencePiece BPE", .ops = &ops},
	{.name = NULL},
};

DS_PLUGIN(.kind = DS_PLUGIN_TOKENIZER, .name = "tokenizer-spm", .version = PACKAGE_VERSION,
	  .summary = "SentencePiece BPE by scores", .vectors = vectors, .entries = entries);
