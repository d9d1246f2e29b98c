/* whole.c - an answer that is gathered and leaves in the reply of Complete: for short ones. */
#include "parts.h"

#include <event2/buffer.h>
#include <string.h>

#define WHOLE_MAX (1u << 20) /* bytes of everything; far below what a bus allows a message */

struct ds_bus_whole {
	struct evbuffer *content, *reasoning;
	json_t *tool_calls;         /* [{"name", "arguments"}...] */
	struct evbuffer *arguments; /* of the last of them */
	size_t size;
};

struct ds_bus_whole *ds_bus_whole_free(struct ds_bus_whole *w)
{
	if (!w)
		return NULL;
	if (w->content)
		evbuffer_free(w->content);
	if (w->reasoning)
		evbuffer_free(w->reasoning);
	if (w->arguments)
		evbuffer_free(w->arguments);
	json_decref(w->tool_calls);
	free(w);
	return NULL;
}

struct ds_bus_whole *ds_bus_whole_new(void)
{
	struct ds_bus_whole *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->content = evbuffer_new();
	w->reasoning = evbuffer_new();
	w->arguments = evbuffer_new();
	w->tool_calls = json_array();
	return w->content && w->reasoning && w->arguments && w->tool_calls ? w : ds_bus_whole_free(w);
}

/* The text gathered in @from, which is empty then; NULL: no memory. */
static char *take_text(struct evbuffer *from)
{
	size_t size = evbuffer_get_length(from);
	char *text = malloc(size + 1);

	if (!text)
		return NULL;
	evbuffer_remove(from, text, size);
	text[size] = '\0';
	return text;
}

static void end_call(struct ds_bus_whole *w)
{
	json_t *call = json_array_get(w->tool_calls, json_array_size(w->tool_calls) - 1);
	char *text = take_text(w->arguments);

	if (call && text)
		json_object_set_new(call, "arguments", json_string(text));
	free(text);
}

static int begin_call(struct ds_bus_whole *w, const struct ds_request_event *event)
{
	end_call(w);
	return json_array_append_new(w->tool_calls, json_pack("{s:s#, s:s}", "name", (const char *)event->data,
							      (int)event->size, "arguments", ""));
}

int ds_bus_whole_put(struct ds_bus_whole *w, const struct ds_request_event *event)
{
	json_t *text = json_stringn((const char *)event->data, event->size); /* is it UTF-8, and without a NUL? */
	bool is_text = text && strlen(json_string_value(text)) == event->size;

	json_decref(text);
	if (!is_text)
		return -EILSEQ;
	w->size += event->size;
	if (w->size > WHOLE_MAX)
		return -EFBIG;
	if (event->type == DS_EVENT_TOOL_NAME)
		return begin_call(w, event);
	return evbuffer_add(event->type == DS_EVENT_CONTENT     ? w->content
			    : event->type == DS_EVENT_REASONING ? w->reasoning
								: w->arguments,
			    event->data, event->size);
}

static int append_text(sd_bus_message *m, const char *name, const char *text)
{
	return *text ? sd_bus_message_append(m, "{sv}", name, "s", text) : 0;
}

static int append_details(sd_bus_message *m, struct ds_bus_whole *w, const struct ds_bus_request *r)
{
	ds_cleanup(ds_freep) char *reasoning = take_text(w->reasoning);
	ds_cleanup(ds_freep) char *calls = NULL;
	int e;

	end_call(w);
	calls = json_array_size(w->tool_calls) ? json_dumps(w->tool_calls, JSON_COMPACT) : strdup("");
	if (!reasoning || !calls)
		return -ENOMEM;
	e = sd_bus_message_open_container(m, 'a', "{sv}");
	if (e >= 0)
		e = sd_bus_message_append(m, "{sv}", "finish_reason", "s", r->outcome);
	if (e >= 0)
		e = append_text(m, "reasoning", reasoning);
	if (e >= 0)
		e = append_text(m, "tool_calls", calls);
	if (e >= 0)
		e = ds_bus_usage_append(m, r);
	return e < 0 ? e : sd_bus_message_close_container(m);
}

int ds_bus_whole_reply(struct ds_bus_whole *w, const struct ds_bus_request *r)
{
	ds_cleanup(ds_freep) char *content = take_text(w->content);
	ds_cleanup(sd_bus_message_unrefp) sd_bus_message *m = NULL;
	int e = content ? sd_bus_message_new_method_return(r->call, &m) : -ENOMEM;

	if (e >= 0)
		e = sd_bus_message_append(m, "s", content);
	if (e >= 0)
		e = append_details(m, w, r);
	return e < 0 ? e : sd_bus_send(NULL, m, NULL);
}
