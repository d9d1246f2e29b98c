/* split.c - split patterns: each is applied to every piece that the one before left, matches and what lies between them
 * becoming the new pieces. A pattern sees its piece as if it were all of the text.
 *
 * Known patterns are translated to machine code; they cannot run away. All of them are, when the first vocabulary is
 * opened: that is one of the plugin's vectors, before the process loses the right to make memory executable. Others come from a checkpoint that nobody
 * vouches for: they are interpreted, under limits, and one that exceeds them is an error of that request. */
#include "bpe.h"

#include <pthread.h>

#define MAX_PATTERN 65536
#define MATCH_LIMIT 10000000u /* steps of one match */
#define DEPTH_LIMIT 10000000u
#define HEAP_LIMIT (64u * 1024) /* KiB */

static int set_limits(struct ds_bpe *bpe, struct ds_error *err)
{
	if (bpe->limits)
		return 0;
	bpe->limits = pcre2_match_context_create(NULL);
	if (!bpe->limits)
		return ds_fail(err, -ENOMEM, "no memory for a split pattern");
	pcre2_set_match_limit(bpe->limits, MATCH_LIMIT);
	pcre2_set_depth_limit(bpe->limits, DEPTH_LIMIT);
	pcre2_set_heap_limit(bpe->limits, HEAP_LIMIT);
	return 0;
}

static pcre2_code *compile(const char *pattern, int *code, PCRE2_SIZE *offset)
{
	return pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
			     PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, code, offset, NULL);
}

/* [as ds_bpe_known_patterns()], for as long as the plugin is loaded; NULL: no memory for it. */
static pcre2_code *known_codes[DS_BPE_MAX_KNOWN];

__attribute__((destructor)) static void free_known(void)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(known_codes); i++)
		pcre2_code_free(known_codes[i]);
}

static void compile_known(void)
{
	size_t n;
	const struct ds_bpe_known *known = ds_bpe_known_patterns(&n);

	for (size_t i = 0; i < n && i < DS_ARRAY_SIZE(known_codes); i++) {
		const char *pattern = known[i].instead ? known[i].instead : known[i].pattern;
		ds_cleanup(ds_freep) char *translated = ds_bpe_translate_pattern(pattern);
		PCRE2_SIZE offset;
		int code;

		known_codes[i] = translated ? compile(translated, &code, &offset) : NULL;
		/* Where the machine or its policy has no just-in-time compiler, the interpreter gives the same answers. */
		if (known_codes[i])
			pcre2_jit_compile(known_codes[i], PCRE2_JIT_COMPLETE);
	}
}

static pcre2_code *known_code(const struct ds_bpe_known *known)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	size_t n;

	pthread_once(&once, compile_known);
	return known_codes[known - ds_bpe_known_patterns(&n)];
}

int ds_bpe_compile(struct ds_bpe *bpe, size_t i, struct ds_error *err)
{
	const char *pattern = bpe->vocabulary->patterns[i];
	const struct ds_bpe_known *known = ds_bpe_known_pattern(pattern);
	ds_cleanup(ds_freep) char *translated = NULL;
	PCRE2_UCHAR message[128];
	PCRE2_SIZE offset = 0;
	int code = 0, r;

	r = set_limits(bpe, err);
	if (r < 0)
		return r;
	if (known) {
		bpe->patterns[i] = known_code(known);
		bpe->is_known[i] = true;
		bpe->takes_words[i] = known->takes_words;
		return bpe->patterns[i] ? 0 : ds_fail(err, -ENOMEM, "no memory for split pattern %zu", i);
	}
	if (strlen(pattern) > MAX_PATTERN)
		return ds_fail(err, -ENOTSUP, "split pattern %zu is longer than %d bytes", i, MAX_PATTERN);
	translated = ds_bpe_translate_pattern(pattern);
	if (!translated)
		return ds_fail(err, -ENOMEM, "no memory for split pattern %zu", i);
	bpe->patterns[i] = compile(translated, &code, &offset);
	if (!bpe->patterns[i]) {
		pcre2_get_error_message(code, message, sizeof(message));
		return ds_fail(err, -ENOTSUP, "split pattern %zu: %s: %.100s", i, (char *)message, pattern);
	}
	return 0;
}

/* The next match at or after @from; *@end is 0 if there is none. */
static int find_match(struct ds_bpe_work *work, size_t level, const char *text, size_t n, size_t from, size_t *begin,
		      size_t *end, struct ds_error *err)
{
	const pcre2_code *pattern = work->bpe->patterns[level];
	PCRE2_UCHAR message[128];
	int found;

	found = pcre2_match(pattern, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, work->match,
			    work->bpe->limits);
	if (found == PCRE2_ERROR_JIT_STACKLIMIT)
		found = pcre2_match(pattern, (PCRE2_SPTR)text, n, from,
				    PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY | PCRE2_NO_JIT, work->match, work->bpe->limits);
	if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
		pcre2_get_error_message(found, message, sizeof(message));
		return ds_fail(err, -EINVAL, "split pattern %zu gave up on the text: %s", level, (char *)message);
	}
	*begin = *end = 0;
	if (found >= 0) {
		*begin = pcre2_get_ovector_pointer(work->match)[0];
		*end = pcre2_get_ovector_pointer(work->match)[1];
	}
	/* \K can make a match begin after its end, or before where the last one ended. */
	if (found >= 0 && (*begin < from || *begin >= *end))
		return ds_fail(err, -ENOTSUP, "split pattern %zu moves the beginning of its match", level);
	return 0;
}

/* The bytes of a word that begins @text and needs no pattern to be found: most of what people write is such words. */
static size_t word_size(const char *text, size_t n)
{
	size_t begin = text[0] == ' ', i = begin;

	while (i < n && ((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z')))
		i++;
	return i == begin || (i < n && (uint8_t)text[i] >= 0x80) ? 0 : i;
}

int ds_bpe_split(struct ds_bpe_work *work, size_t level, const char *text, size_t n, struct ds_error *err)
{
	size_t done = 0, begin, end;
	int r = 0;

	if (level == work->bpe->vocabulary->n_patterns)
		return ds_bpe_encode_piece(work, text, n, err);
	while (done < n) {
		begin = done;
		end = work->bpe->takes_words[level] ? done + word_size(text + done, n - done) : done;
		if (end == done) {
			r = find_match(work, level, text, n, done, &begin, &end, err);
			if (r < 0)
				return r;
			if (end == 0)
				begin = end = n;
		}
		if (begin > done)
			r = ds_bpe_split(work, level + 1, text + done, begin - done, err);
		if (r == 0 && end > begin)
			r = ds_bpe_split(work, level + 1, text + begin, end - begin, err);
		if (r < 0)
			return r;
		done = end;
	}
	return 0;
}
