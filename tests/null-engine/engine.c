/* engine.c - the null ds-engine: tokens by the clock, without a model.
 *
 * Words of the prompt: tokens=N (default 8), delay_us=N between tokens, prefill_ms=N before the first, reasoning=N of
 * the tokens are reasoning, size=N bytes a token, tool=1 ends with a tool call, logprobs=1, fail=1, bad_utf8=1, nul=1,
 * breach=1, die=N after N tokens, long=1 context_length_exceeded, hang=1 computes without end and without listening,
 * forge=1 ends the request that came before and lies one slot lower, whosever that is. On stderr: "null: cancel N" with the
 * tokens that the request had written. */
#include "null.h"

#include <event.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <time.h>

#define MAX_RUNNING 1024
#define LOOKED_AT 1024 /* bytes at the end of a request that is not parsed */

struct sequence {
	uint64_t id, due_us;
	long n_tokens, n_done, delay_us, n_reasoning, size, die;
	bool tool, logprobs, bad_utf8, nul, started, evaluate;
	uint64_t n_floats, n_floats_done;
	int64_t credit;
};

static struct sequence running[MAX_RUNNING];
static size_t n_running;
static uint64_t n_tokens_total;
static _Alignas(8) uint8_t batch[60000];
static size_t batch_size;

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void flush(void)
{
	if (batch_size)
		ds_message_send(3, DS_MSG_EVENTS, 0, batch, batch_size, NULL, 0);
	batch_size = 0;
}

static void put(struct sequence *s, uint16_t type, const void *data, size_t size)
{
	struct ds_event_header header = {.request = s->id, .type = type, .size = (uint32_t)size};

	if (batch_size + ds_event_size(size) > sizeof(batch))
		flush();
	memset(batch + batch_size, 0, ds_event_size(size));
	memcpy(batch + batch_size, &header, sizeof(header));
	memcpy(batch + batch_size + sizeof(header), data, size);
	batch_size += ds_event_size(size);
	s->credit -= (int64_t)ds_event_size(size);
}

static void end(struct sequence *s)
{
	*s = running[--n_running];
}

static void put_token(struct sequence *s)
{
	static const char logprobs[] =
		"[{\"id\": 1, \"token\": \"t\", \"logprob\": -0.5, \"top\": [{\"id\": 1, \"token\": \"t\", "
		"\"logprob\": -0.5}]}]";
	static const char nul[] = "[{\"id\": 0, \"token\": \"\\u0000\", \"logprob\": -0.5, \"top\": []}]";
	char text[4096];
	size_t size = s->size < (long)sizeof(text) ? (size_t)s->size : sizeof(text);
	bool reasoning = s->n_done < s->n_reasoning;

	memset(text, 't', size);
	if (s->bad_utf8)
		text[0] = (char)0xff;
	if (s->nul)
		text[0] = 0;
	if (s->logprobs)
		put(s, DS_EVENT_LOGPROBS, s->nul ? nul : logprobs, s->nul ? sizeof(nul) - 1 : sizeof(logprobs) - 1);
	put(s, reasoning ? DS_EVENT_REASONING : DS_EVENT_CONTENT, text, size);
	n_tokens_total++;
}

static void put_done(struct sequence *s)
{
	struct ds_done done = {.usage = {10, 2, (uint32_t)s->n_done, (uint32_t)s->n_reasoning},
			       .finish = s->tool ? DS_FINISH_TOOL_CALLS : DS_FINISH_STOP};

	if (s->tool) {
		put(s, DS_EVENT_TOOL_NAME, "lookup", 6);
		put(s, DS_EVENT_TOOL_ARGUMENTS, "{\"x\":", 5);
		put(s, DS_EVENT_TOOL_ARGUMENTS, " 1}", 3);
	}
	put(s, DS_EVENT_DONE, &done, sizeof(done));
}

/* Logits: the number of each float. */
static bool step_evaluation(struct sequence *s)
{
	float part[1024];
	size_t n = 0;

	while (n < 1024 && s->n_floats_done + n < s->n_floats) {
		part[n] = (float)(s->n_floats_done + n);
		n++;
	}
	if (n)
		put(s, DS_EVENT_LOGITS, part, n * sizeof(float));
	s->n_floats_done += n;
	if (s->n_floats_done < s->n_floats)
		return false;
	put_done(s);
	return true;
}

/* One step of one sequence that is due. True: it has ended. */
static bool step(struct sequence *s)
{
	struct ds_usage usage = {10, 2, 0, 0};

	if (!s->started)
		put(s, DS_EVENT_STARTED, &usage, sizeof(usage));
	s->started = true;
	if (s->evaluate)
		return step_evaluation(s);
	if (s->die >= 0 && s->n_done >= s->die) {
		flush();
		abort();
	}
	if (s->n_done >= s->n_tokens) {
		put_done(s);
		return true;
	}
	put_token(s);
	s->n_done++;
	s->due_us += (uint64_t)s->delay_us;
	return false;
}

/* The text of the prompt or of the last message. Borrowed from @json. */
static const char *prompt_of(const json_t *json)
{
	const json_t *messages = json_object_get(json, "messages"), *prompt = json_object_get(json, "prompt");
	const char *text = json_string_value(prompt);

	if (messages)
		text = json_string_value(
			json_object_get(json_array_get(messages, json_array_size(messages) - 1), "content"));
	return text ? text : "";
}

static void put_failed(uint64_t id, const char *json)
{
	struct sequence s = {.id = id};

	put(&s, DS_EVENT_FAILED, json, strlen(json));
}

/* What is said of a large prompt: its words stand at the end of its last message, and are looked for there alone, so
 * that nobody who measures the broker waits for this engine to parse. Others are parsed. */
static const char *words_of(const struct ds_message *m, const json_t *json)
{
	return json ? prompt_of(json) : (const char *)m->data + m->size - LOOKED_AT;
}

static void generate(const struct ds_message *m)
{
	json_t *json = m->size > DS_MESSAGE_INLINE ? NULL : json_loadb((const char *)m->data, m->size, 0, NULL);
	const json_t *max = json_object_get(json, "max_tokens");
	const char *text = words_of(m, json);
	struct sequence *s = &running[n_running];

	if (null_word(text, "breach", 0))
		ds_message_send(3, DS_MSG_PLAN, 0, "x", 1, NULL, 0);
	if (null_word(text, "forge", 0))
		put_failed(m->request - (1u << 16) - 1, "{}");
	while (null_word(text, "hang", 0))
		pause();
	if (null_word(text, "fail", 0)) {
		put_failed(m->request,
			   "{\"code\": \"invalid_request\", \"message\": \"as asked\", \"param\": \"messages\"}");
	} else if (null_word(text, "long", 0)) {
		put_failed(
			m->request,
			"{\"code\": \"context_length_exceeded\", \"message\": \"the prompt has 99 tokens, which exceeds the "
			"available context size of 64 tokens\", \"n_prompt_tokens\": 99, "
			"\"n_ctx\": 64}");
	} else if (n_running < MAX_RUNNING) {
		*s = (struct sequence){.id = m->request,
				       .credit = DS_CREDIT,
				       .n_tokens = null_word(text, "tokens", 8),
				       .delay_us = null_word(text, "delay_us", 0),
				       .size = null_word(text, "size", 2),
				       .n_reasoning = null_word(text, "reasoning", 0),
				       .die = null_word(text, "die", -1),
				       .tool = null_word(text, "tool", 0),
				       .bad_utf8 = null_word(text, "bad_utf8", 0),
				       .nul = null_word(text, "nul", 0),
				       .logprobs = json_object_get(json, "logprobs")};
		s->due_us = now_us() + (uint64_t)null_word(text, "prefill_ms", 0) * 1000;
		if (max && json_integer_value(max) < s->n_tokens)
			s->n_tokens = (long)json_integer_value(max);
		n_running++;
	}
	json_decref(json);
}

static void evaluate(const struct ds_message *m)
{
	json_t *json = json_loadb((const char *)m->data, m->size, 0, NULL);
	uint64_t n_rows = json_array_size(json_object_get(json, "tokens"));
	json_int_t greedy = json_integer_value(json_object_get(json, "greedy"));

	n_rows += greedy > 1 ? (uint64_t)greedy - 1 : 0;
	running[n_running++] = (struct sequence){
		.id = m->request, .credit = DS_CREDIT, .evaluate = true, .n_floats = n_rows * NULL_VOCAB};
	json_decref(json);
}

/* TOKENIZE and RENDER. */
static void tokenize(uint64_t id)
{
	struct sequence s = {.id = id};

	put(&s, DS_EVENT_CONTENT, "{\"tokens\": [1]}", 15);
	put_done(&s);
}

static struct sequence *find(uint64_t id)
{
	for (size_t i = 0; i < n_running; i++)
		if (running[i].id == id)
			return &running[i];
	return NULL;
}

/* The dialect "refused" is not there: it says so, and lives on. */
static void map(const struct ds_message *m)
{
	int wanted = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
	json_t *json = json_loadb((const char *)m->data, m->size, 0, NULL);
	json_int_t context = json_integer_value(json_object_get(json, "context"));
	json_int_t parallel = json_integer_value(json_object_get(json, "parallel"));
	const char *dialect = json_string_value(json_object_get(json, "dialect"));

	if (dialect && !strcmp(dialect, "refused"))
		null_send_json(DS_MSG_FAILED,
			       json_pack("{s:s, s:s}", "code", "internal", "message", "there is no such dialect"));
	else if (m->n_fds < 1 || (fcntl(m->fds[0], F_GET_SEALS) & wanted) != wanted ||
	    (fcntl(m->fds[0], F_GETFL) & O_ACCMODE) != O_RDONLY)
		null_send_json(DS_MSG_FAILED,
			       json_pack("{s:s, s:s}", "code", "internal", "message", "the image is not sealed"));
	else
		null_send_json(DS_MSG_READY,
			       json_pack("{s:i, s:i}", "kv_tokens", (int)(context * parallel), "context", (int)context));
	json_decref(json);
}

static void pong(const struct ds_message *m)
{
	struct {
		uint64_t echo;
		struct ds_engine_load load;
	} answer = {0, {(uint32_t)n_running, 0, n_tokens_total, n_running, 4096}};

	memcpy(&answer.echo, m->data, sizeof(answer.echo));
	ds_message_send(3, DS_MSG_PONG, 0, &answer, sizeof(answer), NULL, 0);
}

static void take(const struct ds_message *m, bool *quit)
{
	struct sequence *s = find(m->request);
	uint32_t bytes;

	switch (m->type) {
	case DS_MSG_MAP:
		map(m);
		break;
	case DS_MSG_GENERATE:
		generate(m);
		break;
	case DS_MSG_EVALUATE:
		evaluate(m);
		break;
	case DS_MSG_TOKENIZE:
	case DS_MSG_RENDER:
		tokenize(m->request);
		break;
	case DS_MSG_CANCEL:
		fprintf(stderr, "null: cancel %ld\n", s ? s->n_done : -1);
		if (s)
			end(s);
		break;
	case DS_MSG_CREDIT:
		memcpy(&bytes, m->data, sizeof(bytes));
		if (s)
			s->credit += bytes;
		break;
	case DS_MSG_PING:
		pong(m);
		break;
	case DS_MSG_QUIT:
		*quit = true;
	}
}

/* All sequences that are due and have credit take a step. Returns the time until the next one is due, -1: none. */
static int step_all(void)
{
	uint64_t now = now_us(), next = UINT64_MAX;

	for (size_t i = 0; i < n_running; i++) {
		struct sequence *s = &running[i];

		if (s->credit < 8192)
			continue;
		if (s->due_us <= now && step(s)) {
			end(s);
			i--;
			continue;
		}
		next = s->due_us < next ? s->due_us : next;
	}
	flush();
	return next == UINT64_MAX ? -1 : next <= now ? 0 : (int)((next - now + 999) / 1000);
}

int main(void)
{
	bool quit = false;
	int timeout = -1;

	while (!quit || n_running > 0) {
		struct pollfd p = {.fd = 3, .events = POLLIN};
		struct ds_message m = {0};
		struct ds_error err;

		if (poll(&p, 1, timeout) > 0) {
			if (ds_message_receive(3, &m, &err) < 0)
				return 0;
			take(&m, &quit);
			ds_message_deinit(&m);
			timeout = 0;
			continue;
		}
		timeout = step_all();
	}
	return 0;
}
