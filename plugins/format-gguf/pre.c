/* pre.c - the names that files have for what prepares text before the merges: split patterns, as the tokenizer.json of
 * each family spells them, and what else goes with the name. Characters that Unicode normalization would replace are
 * escaped, so that no editor does it. */
#include "gguf.h"

#define DS_GGUF_OWN "tokenizer.deepseekd."

/* clang-format off */

/* DeepSeek-LLM, V2, Coder-V2. The last one is a step of its own in tokenizer.json: digits stand alone. */
static const char *const deepseek_llm[] = {
	"[\\r\\n]",
	"\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷ"
	"ᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄ"
	"Ⰰ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
	"\\s?[!-/:-~！-／：-～‘-‟　-。]+",
	"\\s+$",
	"[一-龥ࠀ-一가-퟿]+",
	"\\p{N}+",
	"\\p{N}",
	NULL,
};

static const char *const deepseek_coder[] = {
	"[\\r\\n]",
	"\\s?\\p{L}+",
	"\\s?\\p{P}+",
	"[一-龥ࠀ-一가-퟿]+",
	"\\p{N}",
	NULL,
};

/* V3, R1, V3.1, V3.2, V4 */
static const char *const deepseek_v3[] = {
	"\\p{N}{1,3}",
	"[一-龥぀-ゟ゠-ヿ]+",
	"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}"
	"]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
	NULL,
};

static const char *const qwen2[] = {
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p"
	"{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
	NULL,
};

static const char *const llama3[] = {
	"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p"
	"{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
	NULL,
};

static const char *const gpt2[] = {
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s"
	"+",
	NULL,
};

/* clang-format on */

static const struct {
	const char *name; /* in tokenizer.ggml.pre */
	const char *const *patterns;
	bool nfc, ignore_merges, add_bos; /* the last unless the file says otherwise */
} families[] = {
	{"deepseek-llm", deepseek_llm},
	{"deepseek-coder", deepseek_coder},
	{"deepseek-v3", deepseek_v3},
	{"joyai-llm", deepseek_v3}, /* what converters call the tokenizer of V4 */
	{"qwen2", qwen2, .nfc = true},
	{"deepseek-r1-qwen", qwen2, .nfc = true},
	{"llama3", llama3, .ignore_merges = true, .add_bos = true},
	{"llama-v3", llama3, .ignore_merges = true, .add_bos = true},
	{"llama-bpe", llama3, .ignore_merges = true, .add_bos = true},
	{"gpt-2", gpt2},
};

/* What this project's own files say where no name fits; other programs then make do with the name. *@texts is what the
 * patterns borrow, NULL: the file has none. */
static int read_own(struct ds_vocabulary *v, char **texts, const struct ds_gguf *g, struct ds_error *err)
{
	const struct ds_gguf_part *part = &g->parts[0];
	const struct ds_gguf_key *patterns;
	const char *at;
	char *to;
	size_t size = 0;
	int r = ds_gguf_array(part, DS_GGUF_OWN "patterns", DS_GGUF_TEXT, &patterns, err);

	if (r < 0 || !patterns)
		return r;
	if (patterns->count > DS_MAX_PATTERNS)
		return ds_fail(err, -EINVAL, "%s: " DS_GGUF_OWN "patterns has %" PRIu64 " elements, allowed: %d",
			       ds_shown(part->source.file->name).text, patterns->count, DS_MAX_PATTERNS);
	at = patterns->value;
	for (uint64_t i = 0; i < patterns->count; i++)
		size += ds_gguf_next_text(&at).size + 1;
	*texts = to = malloc(size + 1);
	if (!to)
		return ds_fail(err, -ENOMEM, "no memory for %" PRIu64 " split patterns", patterns->count);
	at = patterns->value;
	v->n_patterns = 0;
	for (uint64_t i = 0; i < patterns->count; i++) {
		struct ds_gguf_text text = ds_gguf_next_text(&at);

		if (memchr(text.text, 0, text.size))
			return ds_fail(err, -EINVAL, "%s: " DS_GGUF_OWN "patterns[%" PRIu64 "] holds a NUL",
				       ds_shown(part->source.file->name).text, i);
		memcpy(to, text.text, text.size);
		to[text.size] = 0;
		v->patterns[v->n_patterns++] = to;
		to += text.size + 1;
	}
	r = ds_gguf_bool(part, DS_GGUF_OWN "nfc", &v->nfc, err);
	return r < 0 ? r : ds_gguf_bool(part, DS_GGUF_OWN "ignore_merges", &v->ignore_merges, err);
}

int ds_gguf_read_pre(struct ds_vocabulary *v, char **texts, const struct ds_gguf *g, struct ds_error *err)
{
	struct ds_shown file = ds_shown(g->parts[0].source.file->name);
	struct ds_gguf_text pre = {};
	char supported[160];
	size_t n = 0;
	int r = ds_gguf_text(&g->parts[0], "tokenizer.ggml.pre", &pre, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < DS_ARRAY_SIZE(families); i++) {
		n += (size_t)snprintf(supported + n, sizeof(supported) - n, "%s%s", i ? ", " : "", families[i].name);
		if (!pre.text || !ds_gguf_is(pre, families[i].name))
			continue;
		for (const char *const *p = families[i].patterns; *p; p++)
			v->patterns[v->n_patterns++] = *p;
		v->nfc = families[i].nfc;
		v->ignore_merges = families[i].ignore_merges;
		v->add_bos = families[i].add_bos;
		return read_own(v, texts, g, err);
	}
	if (!pre.text)
		return ds_fail(err, -ENOTSUP,
			       "%s: tokenizer.ggml.pre is missing: the file is older than the key, and nothing "
			       "else says how text is split",
			       file.text);
	return ds_fail(err, -ENOTSUP, "%s: tokenizer.ggml.pre %s is not supported (supported: %s)", file.text,
		       ds_shown_bytes(pre.text, pre.size).text, supported);
}
