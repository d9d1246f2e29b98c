/* observe.c - events and audit records, as fields of the journal and as a line. */
#include "observe.h"
#include "message-ids.h"

#include <string.h>

/* Fields that are being gathered for one event. */
struct fields {
	struct ds_log_field list[DS_LOG_FIELDS + 1]; /* the last one stays empty */
	char numbers[DS_LOG_FIELDS][24];
	size_t n;
};

static void add_text(struct fields *fields, const char *name, const char *value)
{
	if (fields->n < DS_LOG_FIELDS)
		fields->list[fields->n++] = (struct ds_log_field){name, value};
}

static void add_number(struct fields *fields, const char *name, uint64_t value)
{
	char *text = fields->numbers[fields->n < DS_LOG_FIELDS ? fields->n : 0];

	if (fields->n == DS_LOG_FIELDS)
		return;
	snprintf(text, sizeof(fields->numbers[0]), "%llu", (unsigned long long)value);
	add_text(fields, name, text);
}

void ds_observe_request(const struct ds_request_record *r)
{
	bool failed = r->outcome >= DS_OUTCOME_CANCELLED;
	struct fields f = {0};

	if (!(setlogmask(0) & LOG_MASK(LOG_INFO)))
		return;
	add_text(&f, "DEEPSEEKD_REQUEST", r->id);
	add_text(&f, "DEEPSEEKD_MODEL", r->model);
	add_text(&f, "DEEPSEEKD_KIND", ds_kind_names[r->kind]);
	add_text(&f, "DEEPSEEKD_OUTCOME", ds_outcome_names[r->outcome]);
	add_text(&f, "DEEPSEEKD_OWNER", r->owner);
	if (r->uid != (uid_t)-1)
		add_number(&f, "DEEPSEEKD_UID", r->uid);
	add_text(&f, "DEEPSEEKD_UNIT", r->unit);
	add_text(&f, "DEEPSEEKD_APP", r->app);
	add_number(&f, "DEEPSEEKD_PROMPT_TOKENS", r->prompt_tokens);
	add_number(&f, "DEEPSEEKD_CACHED_TOKENS", r->cached_tokens);
	add_number(&f, "DEEPSEEKD_COMPLETION_TOKENS", r->completion_tokens);
	add_number(&f, "DEEPSEEKD_REASONING_TOKENS", r->reasoning_tokens);
	add_number(&f, "DEEPSEEKD_QUEUE_USEC", r->queue_usec);
	add_number(&f, "DEEPSEEKD_PREFILL_USEC", r->prefill_usec);
	add_number(&f, "DEEPSEEKD_DECODE_USEC", r->decode_usec);
	ds_log_event(LOG_INFO, failed ? DS_MESSAGE_REQUEST_FAILED : DS_MESSAGE_REQUEST_DONE, f.list,
		     "request %s: %s of %s%s%s by %s: %s; tokens %llu+%llu, %llu cached; queue %.1f ms, "
		     "prefill %.1f ms, decode %.1f ms",
		     r->id, ds_kind_names[r->kind], r->owner, r->app && *r->app ? " " : "", r->app ? r->app : "",
		     r->model, ds_outcome_names[r->outcome], (unsigned long long)r->prompt_tokens,
		     (unsigned long long)r->completion_tokens, (unsigned long long)r->cached_tokens,
		     (double)r->queue_usec / 1e3, (double)r->prefill_usec / 1e3, (double)r->decode_usec / 1e3);
}

void ds_observe_model_state(const char *model, const char *state, const char *reason)
{
	static const struct {
		const char *state, *message_id;
	} ids[] = {{"loading", DS_MESSAGE_MODEL_LOADING},
		   {"ready", DS_MESSAGE_MODEL_LOADED},
		   {"absent", DS_MESSAGE_MODEL_UNLOADED},
		   {"failed", DS_MESSAGE_MODEL_FAILED}};
	bool failed = !strcmp(state, "failed");
	const char *message_id = NULL;
	struct fields f = {0};

	for (size_t i = 0; i < DS_ARRAY_SIZE(ids); i++)
		if (!strcmp(ids[i].state, state))
			message_id = ids[i].message_id;
	add_text(&f, "DEEPSEEKD_MODEL", model);
	add_text(&f, "DEEPSEEKD_STATE", state);
	add_text(&f, "DEEPSEEKD_REASON", failed ? reason : NULL);
	ds_log_event(failed ? LOG_ERR : LOG_INFO, message_id, f.list, "model %s: %s%s%s", model, state,
		     failed ? ": " : "", failed ? reason : "");
}

void ds_observe_memory_refused(const char *model, const char *reason)
{
	struct fields f = {0};

	add_text(&f, "DEEPSEEKD_MODEL", model);
	add_text(&f, "DEEPSEEKD_REASON", reason);
	ds_log_event(LOG_WARNING, DS_MESSAGE_MEMORY_REFUSED, f.list, "model %s: no memory for it: %s", model, reason);
}

void ds_observe_engine_died(const char *model, const char *reason)
{
	struct fields f = {0};

	add_text(&f, "DEEPSEEKD_MODEL", model);
	add_text(&f, "DEEPSEEKD_REASON", reason);
	ds_log_event(LOG_WARNING, DS_MESSAGE_ENGINE_DIED, f.list, "model %s: its engine ended: %s", model, reason);
}

void ds_observe_plugin_refused(const char *plugin, const char *state, const char *reason)
{
	struct fields f = {0};

	add_text(&f, "DEEPSEEKD_PLUGIN", plugin);
	add_text(&f, "DEEPSEEKD_REASON", reason);
	ds_log_event(LOG_WARNING, DS_MESSAGE_PLUGIN_REFUSED, f.list, "plugin %s is %s: %s", plugin, state, reason);
}

void ds_observe_daemon(int priority, const char *message_id, const char *fmt, ...)
{
	char text[768];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	ds_log_event(priority, message_id, NULL, "%s", text);
}
