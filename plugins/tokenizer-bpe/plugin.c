/* plugin.c - tokenizer-bpe: byte-level BPE, the tokenizer of DeepSeek, Qwen 2 and 3, Llama 3 and GPT-2. */
#include "bpe.h"

static const char *token_text(void *self, uint32_t id, size_t *text_size)
{
	return ds_token_text(((const struct ds_bpe *)self)->vocabulary, id, text_size);
}

static size_t detokenize(void *self, struct ds_detokenizer *state, uint32_t id, char *out)
{
	return ds_detokenize(((const struct ds_bpe *)self)->vocabulary, state, id, out);
}

static size_t finish(void *self, struct ds_detokenizer *state, char *out)
{
	(void)self;
	return ds_detokenize_finish(state, out);
}

static const struct ds_tokenizer_ops ops = {
	.size = sizeof(ops),
	.open = ds_bpe_open,
	.encode = ds_bpe_encode,
	.token_text = token_text,
	.detokenize = detokenize,
	.finish = finish,
	.close = ds_bpe_close,
};

/* Two small vocabularies, the second with bytes of multibyte characters. */
#define WORDS \
	"\"vocabulary\": {\"tokens\": [\"a\", \"b\", \"c\", \" \", \"ab\", \"bc\", \" a\", \"abc\", \" ab\", \"1\", " \
	"{\"text\": \"<s>\", \"special\": true, \"added\": true}, {\"text\": \"<t>\", \"added\": true}, " \
	"{\"text\": \"bcb\", \"added\": true}, \"<\", \"s\", \">\", \"t\", \"\\n\"], " \
	"\"merges\": [[1, 2, 5], [0, 1, 4], [3, 0, 6], [4, 2, 7], [6, 1, 8]], " \
	"\"patterns\": [\"\\\\p{N}{1,3}\", \" ?\\\\p{L}+\"]}"
#define BYTES \
	"\"vocabulary\": {\"tokens\": [\"\\u00f0\\u009f\", \"\\u0098\", \"\\u0080\", \"\\u00e9\", \"\\u00c3\", " \
	"\"\\u00a9\", \"\\u00c3\\u00a9\", \"e\", \"\\u00cc\", \"\\u0081\", \"\\u0080\\u00ff\"], " \
	"\"merges\": [[4, 5, 6]], \"nfc\": true}"

static const struct ds_vector vectors[] = {
	{.name = "the earliest merge goes first, the leftmost of equals",
	 .entry = "bpe",
	 .input = "{" WORDS ", \"text\": \"abc abab\", \"special\": false}",
	 .output = "{\"ids\": [0, 5, 3, 4, 4]}"},
	{.name = "patterns keep merges from crossing",
	 .entry = "bpe",
	 .input = "{" WORDS ", \"text\": \"ab ab11a\", \"special\": false}",
	 .output = "{\"ids\": [4, 3, 4, 9, 9, 0]}"},
	{.name = "in trusted text all added tokens are matched",
	 .entry = "bpe",
	 .input = "{" WORDS ", \"text\": \"<s>abcb<t>\", \"special\": true}",
	 .output = "{\"ids\": [10, 0, 12, 11]}"},
	{.name = "in other text no markup is",
	 .entry = "bpe",
	 .input = "{" WORDS ", \"text\": \"<s>abcb<t>\", \"special\": false}",
	 .output = "{\"ids\": [13, 14, 15, 0, 12, 13, 16, 15]}"},
	{.name = "text is composed before it is encoded",
	 .entry = "bpe",
	 .input = "{" BYTES ", \"text\": \"e\\u0301\\u00e9\", \"special\": false}",
	 .output = "{\"ids\": [6, 6]}"},
	{.name = "a character may come in parts, and what cannot become one is replaced",
	 .entry = "bpe",
	 .input = "{" BYTES ", \"ids\": [0, 1, 2, 0, 7, 3, 0, 1, 10, 4]}",
	 .output = "{\"text\": \"\\ud83d\\ude00\\ufffde\\ufffd\\ud83d\\ude00\\ufffd\\ufffd\"}"},
	{.name = NULL},
};

static const struct ds_entry entries[] = {
	{.name = "bpe", .summary = "byte-level BPE", .ops = &ops},
	{.name = NULL},
};

DS_PLUGIN(.kind = DS_PLUGIN_TOKENIZER, .name = "tokenizer-bpe", .version = PACKAGE_VERSION,
	  .summary = "byte-level BPE with split patterns", .vectors = vectors, .entries = entries);
