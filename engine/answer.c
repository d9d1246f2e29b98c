/* answer.c - the words of one generation.
 *
 * Buffers are taken when the answer begins, for the longest text that one event may have. */
#include "answer.h"
#include "engine.h"
#include "stops.h"
#include <deepseekd/exp.h>

#include <math.h>
#include <string.h>

#define MAX_ALTERNATIVES 20

/* A text that grows; without memory it stays as it is and says so. */
struct text {
	char *data;
	size_t size, capacity;
	bool lost;
};

struct ds_answer {
	const struct ds_engine *engine;
	struct ds_outlet *outlet;
	int n_logprobs;

	struct ds_detokenizer detokenizer;
	char *characters; /* of one token, as long as the longest token can make it */
	void *parser;	  /* of the dialect; NULL: all is content */
	struct ds_stops *stops;
	bool stopped; /* a stop string was met */
	bool lost;

	enum ds_output kind; /* of the last text */
	uint32_t n_reasoning;
	bool tool_calls;

	struct text logprobs; /* JSON of the tokens whose text is still to come, without the closing bracket */
};

static int start_parser(struct ds_answer *answer, bool thinking, struct ds_error *err)
{
	int r = answer->engine->dialect->open(&answer->parser, ds_plugins_host(), thinking, err);

	if (r < 0)
		answer->parser = NULL;
	return r;
}

int ds_answer_new(struct ds_answer **out, const struct ds_engine *engine, struct ds_outlet *outlet,
		  const struct ds_answer_options *options, struct ds_error *err)
{
	ds_cleanup(ds_answer_freep) struct ds_answer *answer = calloc(1, sizeof(*answer));
	size_t longest = 0;
	int r;

	if (!answer)
		return ds_fail(err, -ENOMEM, "no memory for an answer");
	answer->engine = engine;
	answer->outlet = outlet;
	answer->n_logprobs = options->n_logprobs < MAX_ALTERNATIVES ? options->n_logprobs : MAX_ALTERNATIVES;
	answer->kind = options->thinking ? DS_OUTPUT_REASONING : DS_OUTPUT_CONTENT;
	for (uint32_t i = 0; engine->vocabulary && i < engine->vocabulary->n_tokens; i++)
		if (engine->vocabulary->tokens[i].size > longest)
			longest = engine->vocabulary->tokens[i].size;
	answer->characters = malloc(longest * 3 + 16);
	if (!answer->characters)
		return ds_fail(err, -ENOMEM, "no memory for an answer");
	r = ds_stops_new(&answer->stops, options->stops, options->n_stops, err);
	if (r == 0 && options->chat)
		r = start_parser(answer, options->thinking, err);
	if (r < 0)
		return r;
	*out = ds_steal(&answer);
	return 0;
}

struct ds_answer *ds_answer_free(struct ds_answer *answer)
{
	if (!answer)
		return NULL;
	if (answer->parser)
		answer->engine->dialect->close(answer->parser);
	ds_stops_free(answer->stops);
	free(answer->characters);
	free(answer->logprobs.data);
	free(answer);
	return NULL;
}

/* ---- the JSON of logprobs ---- */

static void append(struct text *text, const char *data, size_t size)
{
	size_t capacity = text->capacity ? text->capacity : DS_EVENT_TEXT_MAX;
	char *grown;

	while (capacity - text->size < size)
		capacity *= 2;
	if (capacity != text->capacity) {
		grown = realloc(text->data, capacity);
		if (!grown) {
			text->lost = true;
			return;
		}
		text->data = grown;
		text->capacity = capacity;
	}
	memcpy(text->data + text->size, data, size);
	text->size += size;
}

__attribute__((format(printf, 2, 3)))
static void append_format(struct text *text, const char *fmt, ...)
{
	char line[128];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	append(text, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

/* A JSON string of valid UTF-8. */
static void append_string(struct text *text, const char *data, size_t size)
{
	append(text, "\"", 1);
	for (size_t i = 0; i < size; i++) {
		uint8_t c = (uint8_t)data[i];

		if (c < 0x20)
			append_format(text, "\\u%04x", c);
		else if (c == '"' || c == '\\')
			append_format(text, "\\%c", c);
		else
			append(text, data + i, 1);
	}
	append(text, "\"", 1);
}

static void append_token(struct ds_answer *answer, uint32_t id, double logprob)
{
	const struct ds_engine *engine = answer->engine;
	struct ds_detokenizer alone = {0};
	size_t size = 0;

	if (engine->tokenizer_ops && id < engine->vocabulary->n_tokens) {
		size = engine->tokenizer_ops->detokenize(engine->tokenizer, &alone, id, answer->characters);
		size += engine->tokenizer_ops->finish(engine->tokenizer, &alone, answer->characters + size);
	}
	append_format(&answer->logprobs, "{\"id\":%u,\"token\":", id);
	append_string(&answer->logprobs, answer->characters, size);
	if (isfinite(logprob))
		append_format(&answer->logprobs, ",\"logprob\":%.6g", logprob);
	else
		append_format(&answer->logprobs, ",\"logprob\":null");
}

/* ---- events ---- */

static void send(struct ds_answer *answer, enum ds_event_type type, const char *data, size_t size)
{
	if (ds_outlet_write(answer->outlet, type, data, size) < 0)
		answer->lost = true;
}

static void send_logprobs(struct ds_answer *answer)
{
	if (answer->logprobs.size == 0)
		return;
	append(&answer->logprobs, "]", 1);
	answer->lost |= answer->logprobs.lost;
	send(answer, DS_EVENT_LOGPROBS, answer->logprobs.data, answer->logprobs.size);
	answer->logprobs.size = 0;
}

/* How much of @text goes into one event: it must not end inside a character. */
static size_t event_size(const char *text, size_t size)
{
	size_t n = DS_EVENT_TEXT_MAX;

	if (size <= n)
		return size;
	while (n > DS_EVENT_TEXT_MAX - 4 && ((uint8_t)text[n] & 0xc0) == 0x80)
		n--;
	return n;
}

static void send_text(struct ds_answer *answer, enum ds_event_type type, const char *text, size_t size)
{
	send_logprobs(answer);
	do {
		size_t n = event_size(text, size);

		send(answer, type, text, n);
		text += n;
		size -= n;
	} while (size > 0);
}

/* Tokens without a text of their own are listed all the same. */
static void send_logprobs_alone(struct ds_answer *answer)
{
	if (answer->logprobs.size > 0)
		send_text(answer, answer->kind == DS_OUTPUT_REASONING ? DS_EVENT_REASONING : DS_EVENT_CONTENT, "", 0);
}

/* ---- logprobs ---- */

struct alternatives {
	uint32_t ids[MAX_ALTERNATIVES];
	uint32_t n;
};

static struct alternatives find_alternatives(const float *logits, uint32_t vocab, uint32_t n)
{
	struct alternatives best = {.n = 0};
	float bound = 0; /* what the last of n is, which nearly nothing exceeds */

	for (uint32_t id = 0; n > 0 && id < vocab; id++) {
		uint32_t i = best.n;

		if (best.n == n && !(logits[id] > bound))
			continue;
		if (best.n < n)
			best.n++;
		else
			i--;
		for (; i > 0 && logits[id] > logits[best.ids[i - 1]]; i--)
			best.ids[i] = best.ids[i - 1];
		best.ids[i] = id;
		bound = logits[best.ids[best.n - 1]];
	}
	return best;
}

static double log_sum_exp(const float *logits, uint32_t vocab)
{
	float max = -INFINITY;
	double sum = 0;

#pragma omp simd reduction(max : max)
	for (uint32_t i = 0; i < vocab; i++)
		max = logits[i] > max ? logits[i] : max;
#pragma omp simd reduction(+ : sum)
	for (uint32_t i = 0; i < vocab; i++)
		sum += ds_exp(logits[i] - max);
	return max + log(sum);
}

void ds_answer_note_logprobs(struct ds_answer *answer, uint32_t id, const float *logits)
{
	uint32_t vocab = answer->engine->hparams->vocab;
	struct alternatives best = {.n = 0};
	double total = 0;

	if (answer->n_logprobs < 0)
		return;
	if (logits) {
		best = find_alternatives(logits, vocab, (uint32_t)answer->n_logprobs);
		total = log_sum_exp(logits, vocab);
	}
	append(&answer->logprobs, answer->logprobs.size ? "," : "[", 1);
	append_token(answer, id, logits ? logits[id] - total : NAN);
	append_format(&answer->logprobs, ",\"top\":[");
	for (uint32_t i = 0; i < best.n; i++) {
		if (i > 0)
			append(&answer->logprobs, ",", 1);
		append_token(answer, best.ids[i], logits[best.ids[i]] - total);
		append(&answer->logprobs, "}", 1);
	}
	append_format(&answer->logprobs, "]}");
	if (answer->logprobs.size > DS_EVENT_TEXT_MAX / 2)
		send_logprobs_alone(answer);
}

/* ---- text ---- */

static void on_content(void *self, const char *text, size_t size)
{
	send_text(self, DS_EVENT_CONTENT, text, size);
}

static void on_output(void *self, enum ds_output kind, const char *text, size_t size)
{
	static const enum ds_event_type types[] = {
		[DS_OUTPUT_REASONING] = DS_EVENT_REASONING,
		[DS_OUTPUT_TOOL_NAME] = DS_EVENT_TOOL_NAME,
		[DS_OUTPUT_TOOL_ARGUMENTS] = DS_EVENT_TOOL_ARGUMENTS,
	};
	struct ds_answer *answer = self;

	answer->kind = kind;
	if (answer->stopped || (size == 0 && kind != DS_OUTPUT_TOOL_NAME))
		return;
	if (kind == DS_OUTPUT_CONTENT) {
		answer->stopped = ds_stops_feed(answer->stops, text, size, on_content, answer);
		return;
	}
	/* What was held back of the content is complete now: nothing will be added to it. */
	ds_stops_finish(answer->stops, on_content, answer);
	answer->tool_calls |= kind == DS_OUTPUT_TOOL_NAME;
	send_text(answer, types[kind], text, size);
}

static void feed(struct ds_answer *answer, const char *text, size_t size, bool special)
{
	struct ds_output_writer writer = {.size = sizeof(writer), .self = answer, .write = on_output};

	if (answer->parser)
		answer->engine->dialect->feed(answer->parser, text, size, special, &writer);
	else if (!special)
		on_output(answer, DS_OUTPUT_CONTENT, text, size);
}

/* Characters that wait for more bytes get none. */
static void flush_characters(struct ds_answer *answer)
{
	const struct ds_engine *engine = answer->engine;
	size_t size;

	if (!engine->tokenizer_ops || answer->detokenizer.n_pending == 0)
		return;
	size = engine->tokenizer_ops->finish(engine->tokenizer, &answer->detokenizer, answer->characters);
	if (size > 0)
		feed(answer, answer->characters, size, false);
}

bool ds_answer_token(struct ds_answer *answer, uint32_t id)
{
	const struct ds_engine *engine = answer->engine;
	uint32_t flags = ds_engine_token_flags(engine, id);
	size_t size;

	if (flags & DS_TOKEN_SPECIAL) {
		const char *text = ds_engine_token_text(engine, id, &size);

		flush_characters(answer);
		feed(answer, text, size, true);
	} else if (!(flags & DS_TOKEN_UNUSED)) {
		size = engine->tokenizer_ops->detokenize(engine->tokenizer, &answer->detokenizer, id, answer->characters);
		if (size > 0)
			feed(answer, answer->characters, size, false);
	}
	answer->n_reasoning += answer->kind == DS_OUTPUT_REASONING;
	return answer->stopped;
}

void ds_answer_echo(struct ds_answer *answer, uint32_t id)
{
	const struct ds_engine *engine = answer->engine;
	uint32_t flags = ds_engine_token_flags(engine, id);
	size_t size;

	if (flags & (DS_TOKEN_SPECIAL | DS_TOKEN_UNUSED))
		return;
	size = engine->tokenizer_ops->detokenize(engine->tokenizer, &answer->detokenizer, id, answer->characters);
	if (size > 0)
		on_content(answer, answer->characters, size);
}

void ds_answer_end_echo(struct ds_answer *answer)
{
	const struct ds_engine *engine = answer->engine;
	size_t size = 0;

	if (engine->tokenizer_ops)
		size = engine->tokenizer_ops->finish(engine->tokenizer, &answer->detokenizer, answer->characters);
	if (size > 0)
		on_content(answer, answer->characters, size);
}

void ds_answer_finish(struct ds_answer *answer)
{
	struct ds_output_writer writer = {.size = sizeof(writer), .self = answer, .write = on_output};

	if (!answer->stopped) {
		flush_characters(answer);
		if (answer->parser)
			answer->engine->dialect->finish(answer->parser, &writer);
	}
	ds_stops_finish(answer->stops, on_content, answer);
	send_logprobs_alone(answer);
}

uint32_t ds_answer_get_reasoning_tokens(const struct ds_answer *answer)
{
	return answer->n_reasoning;
}

bool ds_answer_has_tool_calls(const struct ds_answer *answer)
{
	return answer->tool_calls;
}

bool ds_answer_is_lost(const struct ds_answer *answer)
{
	return answer->lost;
}
