/* answer.c - server-sent chunks of a chat completion, collected and handed on. */
#include "answer.h"

#include "output.h"
#include "sse.h"

#include <string.h>

struct stream {
	struct ds_sse sse;
	const struct ds_answer_sink *sink;
	struct ds_answer *answer;
	char *content, *reasoning;
	size_t content_size, reasoning_size;
	FILE *content_file, *reasoning_file;
};

void ds_answer_deinit(struct ds_answer *a)
{
	json_decref(a->content);
	json_decref(a->reasoning);
	json_decref(a->usage);
	free(a->model);
	free(a->finish_reason);
	*a = (struct ds_answer){0};
}

static void take_text(const json_t *text, FILE *file, void (*sink)(void *, const char *, size_t), void *self)
{
	size_t size = json_string_length(text);

	if (size == 0)
		return;
	fwrite(json_string_value(text), 1, size, file);
	if (sink)
		sink(self, json_string_value(text), size);
}

static void remember(char **where, const json_t *text)
{
	if (!*where && json_is_string(text))
		*where = strdup(json_string_value(text));
}

/* {"error": {"message", "code"}} in the middle of a stream. */
static int fail_in_stream(const json_t *error, struct ds_error *err)
{
	const char *message = json_string_value(json_object_get(error, "message"));
	const char *code = json_string_value(json_object_get(error, "code"));

	return ds_fail(err, code && strcmp(code, "overloaded") == 0 ? -EBUSY : -EREMOTEIO, "%s",
		       message ? message : "the answer ended with an error that has no message");
}

static int on_event(void *self, const char *data, size_t size, struct ds_error *err)
{
	struct stream *s = self;
	const json_t *choice, *delta, *error, *usage;
	json_error_t where;
	json_t *chunk;
	int r = 0;

	if (size == 6 && memcmp(data, "[DONE]", 6) == 0) {
		s->answer->ended = true;
		return 0;
	}
	chunk = json_loadb(data, size, JSON_ALLOW_NUL, &where);
	if (!json_is_object(chunk)) {
		json_decref(chunk);
		return ds_fail(err, -EPROTO, "a chunk of the answer is not a JSON object");
	}
	choice = json_array_get(json_object_get(chunk, "choices"), 0);
	delta = json_object_get(choice, "delta");
	error = json_object_get(chunk, "error");
	usage = json_object_get(chunk, "usage");
	take_text(json_object_get(delta, "reasoning_content"), s->reasoning_file, s->sink->reasoning, s->sink->self);
	take_text(json_object_get(delta, "content"), s->content_file, s->sink->content, s->sink->self);
	remember(&s->answer->model, json_object_get(chunk, "model"));
	remember(&s->answer->finish_reason, json_object_get(choice, "finish_reason"));
	if (json_is_object(usage)) {
		json_decref(s->answer->usage);
		s->answer->usage = json_deep_copy(usage);
	}
	if (error)
		r = fail_in_stream(error, err);
	json_decref(chunk);
	return r;
}

static int on_data(void *self, const char *data, size_t size, struct ds_error *err)
{
	struct stream *s = self;

	return ds_sse_feed(&s->sse, data, size, on_event, s, err);
}

/* What came, even if it ends early; text cut inside a character cannot come: chunks are JSON strings. */
static void keep(struct stream *s)
{
	if (s->content_file)
		fclose(s->content_file);
	if (s->reasoning_file)
		fclose(s->reasoning_file);
	s->answer->content = json_stringn(s->content ? s->content : "", s->content_size);
	s->answer->reasoning = json_stringn(s->reasoning ? s->reasoning : "", s->reasoning_size);
	free(s->content);
	free(s->reasoning);
	ds_sse_deinit(&s->sse);
}

int ds_answer_fetch(struct ds_client *client, json_t *request, const struct ds_answer_sink *sink,
		    struct ds_answer *answer, struct ds_error *err)
{
	struct stream s = {.sink = sink, .answer = answer};
	ds_cleanup(ds_exchange_deinit) struct ds_exchange e = {
		.method = "POST",
		.path = "/v1/chat/completions",
		.body = request,
		.on_data = on_data,
		.self = &s,
	};
	int r = -ENOMEM;

	s.content_file = open_memstream(&s.content, &s.content_size);
	s.reasoning_file = open_memstream(&s.reasoning, &s.reasoning_size);
	if (s.content_file && s.reasoning_file && json_object_set_new(request, "stream", json_true()) == 0 &&
	    json_object_set_new(request, "stream_options", json_pack("{s:b}", "include_usage", 1)) == 0)
		r = ds_http_perform(client->http, &e, 1, err);
	else
		ds_fail(err, r, "no memory for an answer");
	keep(&s);
	if (r == 0 && !answer->ended)
		r = ds_fail(err, -EPIPE, "the daemon closed the connection in the middle of its answer");
	return r;
}

static void set_number(json_t *request, const char *key, const struct ds_number *n, bool whole)
{
	if (n->given)
		json_object_set_new(request, key, whole ? json_integer((json_int_t)n->value) : json_real(n->value));
}

json_t *ds_answer_request(const struct ds_answer_options *options, const char *model, json_t *messages)
{
	json_t *request = json_object();

	if (!request)
		return NULL;
	if (model)
		json_object_set_new(request, "model", json_string(model));
	json_object_set(request, "messages", messages);
	set_number(request, "temperature", &options->temperature, false);
	set_number(request, "top_p", &options->top_p, false);
	set_number(request, "max_tokens", &options->max_tokens, true);
	set_number(request, "seed", &options->seed, true);
	return request;
}

json_t *ds_answer_message(const char *role, const char *text, size_t size)
{
	return json_pack("{s:s, s:s%}", "role", role, "content", text, size);
}

static void print_held_newlines(struct ds_answer_printer *p)
{
	for (; p->n_held > 0; p->n_held--)
		putc('\n', stderr);
}

static void print_reasoning(void *self, const char *text, size_t size)
{
	struct ds_answer_printer *p = self;

	if (p->hide_thinking)
		return;
	while (size > 0) {
		size_t n = 0;

		while (n < size && text[n] != '\n')
			n++;
		if (n > 0) {
			if (!p->thought && ds_output_has_colour(stderr)) {
				fputs("\033[2m", stderr);
				p->dimmed = true;
			}
			print_held_newlines(p);
			ds_output_text(stderr, text, n);
			p->thought = true;
		}
		/* Newlines before the first word are dropped, those after the last never printed. */
		p->n_held += n < size && p->thought;
		text += n + (n < size);
		size -= n + (n < size);
	}
}

static void end_reasoning(struct ds_answer_printer *p)
{
	if (!p->thought)
		return;
	if (p->dimmed)
		fputs("\033[0m", stderr);
	/* An empty line between the two, where a person sees both. */
	fputs(ds_output_is_terminal(stderr) && ds_output_is_terminal(stdout) ? "\n\n" : "\n", stderr);
	fflush(stderr);
	p->thought = p->dimmed = false;
	p->n_held = 0;
}

static void print_content(void *self, const char *text, size_t size)
{
	struct ds_answer_printer *p = self;

	end_reasoning(p);
	ds_output_text(stdout, text, size);
	p->said = true;
	p->last = text[size - 1];
}

struct ds_answer_sink ds_answer_printer_sink(struct ds_answer_printer *p)
{
	return (struct ds_answer_sink){.reasoning = print_reasoning, .content = print_content, .self = p};
}

void ds_answer_printer_end(struct ds_answer_printer *p)
{
	end_reasoning(p);
	if (p->said && p->last != '\n')
		putchar('\n');
	fflush(stdout);
}

void ds_answer_tell_if_cut(const struct ds_answer *a)
{
	bool reasons = json_string_length(a->content) == 0 && json_string_length(a->reasoning) > 0;

	if (a->finish_reason && strcmp(a->finish_reason, "length") == 0)
		fprintf(stderr, "dsctl: the %s stops here because %s reached its greatest length\n",
			reasons ? "reasoning" : "answer", reasons ? "the answer" : "it");
}
