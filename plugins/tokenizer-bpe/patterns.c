/* patterns.c - the split patterns of the families that are supported, as their tokenizer.json spells them, and what
 * PCRE2 is given for them. Order does not matter here: it is the vocabulary's. Characters that Unicode normalization
 * would replace are escaped, so that no editor does it. */
#include "bpe.h"

/* White_Space of Unicode, for inside a class. PCRE2's own \s has U+180E too, which is none since Unicode 6.3. */
#define WHITE_SPACE "\\t-\\r\\x{85}\\p{Z}"

static const struct ds_bpe_known known[] = {
	/* DeepSeek-LLM, V2, Coder-V2 */
	{.pattern = "[\\r\\n]"},
	{.pattern = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷ"
	 "ᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄ"
	 "Ⰰ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
	 .takes_words = true},
	{.pattern = "\\s?[!-/:-~！-／：-～‘-‟　-。]+"},
	{.pattern = "\\s+$", .instead = "(?<!\\s)\\s++$"},
	{.pattern = "[一-龥ࠀ-一가-퟿]+"},
	{.pattern = "\\p{N}+"},
	/* DeepSeek-Coder */
	{.pattern = "\\s?\\p{L}+",
	 .takes_words = true},
	{.pattern = "\\s?\\p{P}+"},
	{.pattern = "\\p{N}"},
	/* DeepSeek-V3, R1, V3.1, V3.2, V4 */
	{.pattern = "\\p{N}{1,3}"},
	{.pattern = "[一-龥぀-ゟ゠-ヿ]+"},
	{.pattern = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}"
	 "]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
	 .takes_words = true},
	/* Qwen 2, 3 */
	{.pattern = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p"
	 "{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
	 .takes_words = true},
	/* Llama 3 */
	{.pattern = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p"
	 "{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
	 .takes_words = true},
	/* GPT-2 */
	{.pattern = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s"
	 "+",
	 .takes_words = true},
};

_Static_assert(DS_ARRAY_SIZE(known) <= DS_BPE_MAX_KNOWN, "split.c has room for them");

/* Is @pattern the same as @spelled, taking a line end as itself or as its escape? */
static bool is_same(const char *pattern, const char *spelled)
{
	for (; *pattern; pattern++, spelled++) {
		if (*pattern == '\r' || *pattern == '\n') {
			if (*spelled++ != '\\' || *spelled != (*pattern == '\r' ? 'r' : 'n'))
				return false;
		} else if (*pattern != *spelled) {
			return false;
		}
	}
	return !*spelled;
}

const struct ds_bpe_known *ds_bpe_known_patterns(size_t *n)
{
	*n = DS_ARRAY_SIZE(known);
	return known;
}

const struct ds_bpe_known *ds_bpe_known_pattern(const char *pattern)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(known); i++)
		if (is_same(pattern, known[i].pattern))
			return &known[i];
	return NULL;
}

char *ds_bpe_translate_pattern(const char *pattern)
{
	static const char class[] = "[" WHITE_SPACE "]", negated[] = "[^" WHITE_SPACE "]";
	char *translated = malloc(strlen(pattern) * (sizeof(negated) / 2) + 1), *out = translated;
	bool in_class = false;

	for (; translated && *pattern; pattern++) {
		if (pattern[0] == '\\' && pattern[1] == 's') {
			out = stpcpy(out, in_class ? WHITE_SPACE : class);
			pattern++;
		} else if (pattern[0] == '\\' && pattern[1] == 'S' && !in_class) {
			out = stpcpy(out, negated);
			pattern++;
		} else {
			in_class = *pattern == '[' || (in_class && *pattern != ']');
			*out++ = *pattern;
			if (pattern[0] == '\\' && pattern[1])
				*out++ = *++pattern;
		}
	}
	if (translated)
		*out = '\0';
	return translated;
}
