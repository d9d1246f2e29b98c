/* prompt.c - a conversation to markup and text, and both to tokens.
 *
 * What the dialect writes is cut at the special tokens of its markup; the text between two cuts grows in one buffer, a
 * run, and is tokenised when the next special token or the end comes. */
#include "prompt.h"
#include "chat.h"
#include "engine.h"

#include <string.h>

void ds_prompt_deinit(struct ds_prompt *prompt)
{
	free(prompt->tokens);
	prompt->tokens = NULL;
}

/* ---- runs ---- */

struct runs {
	const struct ds_engine *engine;
	uint32_t *special; /* [n_special] ids that markup may contain */
	size_t n_special;
	char *run;
	size_t size, capacity;
	struct ds_prompt *prompt;
	size_t tokens_capacity;
	int result;
	struct ds_error error;
};

static void runs_deinit(struct runs *runs)
{
	free(runs->special);
	free(runs->run);
}

static int runs_init(struct runs *runs, const struct ds_engine *engine, struct ds_prompt *prompt)
{
	const struct ds_vocabulary *v = engine->vocabulary;
	size_t n = 0;

	*runs = (struct runs){.engine = engine, .prompt = prompt};
	for (uint32_t i = 0; i < v->n_tokens; i++)
		n += (v->tokens[i].flags & DS_TOKEN_ADDED) && v->tokens[i].size > 0;
	runs->special = malloc((n + 1) * sizeof(*runs->special));
	if (!runs->special)
		return ds_fail(&runs->error, -ENOMEM, "no memory for the prompt");
	for (uint32_t i = 0; i < v->n_tokens; i++)
		if ((v->tokens[i].flags & DS_TOKEN_ADDED) && v->tokens[i].size > 0)
			runs->special[runs->n_special++] = i;
	return 0;
}

static void add_tokens(struct runs *runs, const uint32_t *ids, size_t n)
{
	struct ds_prompt *prompt = runs->prompt;

	if (runs->result < 0)
		return;
	if (n > runs->tokens_capacity - prompt->n) {
		size_t capacity = 2 * (prompt->n + n) + 64;
		uint32_t *tokens = realloc(prompt->tokens, capacity * sizeof(*tokens));

		if (!tokens) {
			runs->result = ds_fail(&runs->error, -ENOMEM, "no memory for the prompt");
			return;
		}
		prompt->tokens = tokens;
		runs->tokens_capacity = capacity;
	}
	if (n > 0)
		memcpy(prompt->tokens + prompt->n, ids, n * sizeof(*ids));
	prompt->n += n;
}

static void encode(struct runs *runs, const char *text, size_t size, unsigned flags)
{
	const struct ds_engine *engine = runs->engine;
	uint32_t *ids = NULL;
	size_t n = 0;

	size_t max = ds_prompt_max(engine->context), left = max > runs->prompt->n ? max - runs->prompt->n : 0;

	if (runs->result == 0 && size > 0)
		runs->result = engine->tokenizer_ops->encode(engine->tokenizer, text, size, flags, left, &ids, &n,
							     &runs->error);
	add_tokens(runs, ids, n);
	ds_plugins_host()->free(ids);
}

static void end_run(struct runs *runs)
{
	encode(runs, runs->run, runs->size, 0);
	runs->size = 0;
}

static void on_text(void *self, const char *text, size_t size)
{
	struct runs *runs = self;

	if (runs->result < 0 || size == 0)
		return;
	if (size > runs->capacity - runs->size) {
		size_t capacity = 2 * (runs->size + size) + 256;
		char *run = realloc(runs->run, capacity);

		if (!run) {
			runs->result = ds_fail(&runs->error, -ENOMEM, "no memory for the prompt");
			return;
		}
		runs->run = run;
		runs->capacity = capacity;
	}
	memcpy(runs->run + runs->size, text, size);
	runs->size += size;
}

/* The longest special token that @text begins with, or DS_NO_TOKEN. */
static uint32_t find_special(const struct runs *runs, const char *text, size_t size)
{
	const struct ds_token *tokens = runs->engine->vocabulary->tokens;
	uint32_t best = DS_NO_TOKEN;

	for (size_t i = 0; i < runs->n_special; i++) {
		const struct ds_token *token = &tokens[runs->special[i]];

		if (token->text[0] == text[0] && token->size <= size && memcmp(token->text, text, token->size) == 0 &&
		    (best == DS_NO_TOKEN || token->size > tokens[best].size))
			best = runs->special[i];
	}
	return best;
}

static void on_markup(void *self, const char *text)
{
	struct runs *runs = self;
	size_t size = strlen(text), plain = 0, at = 0;

	while (at < size) {
		uint32_t id = find_special(runs, text + at, size - at);

		if (id == DS_NO_TOKEN) {
			at++;
			continue;
		}
		on_text(runs, text + plain, at - plain);
		end_run(runs);
		add_tokens(runs, &id, 1);
		at += runs->engine->vocabulary->tokens[id].size;
		plain = at;
	}
	on_text(runs, text + plain, size - plain);
}

/* ---- the three kinds ---- */

/* The sentences of chat.c begin with the path of what is wrong. */
int ds_refuse_chat(int code, const struct ds_error *error, struct ds_failure *failure)
{
	char param[64];

	if (code == -ENOMEM)
		return ds_refuse(failure, DS_INTERNAL, NULL, "%s", error->text);
	snprintf(param, sizeof(param), "%.*s", (int)strcspn(error->text, ":"), error->text);
	return ds_refuse(failure, DS_INVALID_REQUEST, param, "%s", error->text);
}

/* What became of the runs. */
static int runs_result(const struct runs *runs, struct ds_failure *failure)
{
	uint32_t context = runs->engine->context;

	if (runs->result != -E2BIG)
		return runs->result < 0 ? ds_refuse(failure, DS_INTERNAL, NULL, "%s", runs->error.text) : 0;
	return ds_refuse_prompt(failure, "more than ", ds_prompt_max(context), context);
}

static int no_memory(struct ds_failure *failure)
{
	return ds_refuse(failure, DS_INTERNAL, NULL, "no memory for the prompt");
}

static int render(struct ds_prompt *prompt, const struct ds_engine *engine, const struct ds_conversation *conversation,
		  struct ds_failure *failure)
{
	ds_cleanup(runs_deinit) struct runs runs;
	struct ds_prompt_writer writer = {.size = sizeof(writer), .self = &runs, .markup = on_markup, .text = on_text};
	struct ds_error error = {{0}};

	if (runs_init(&runs, engine, prompt) < 0)
		return no_memory(failure);
	if (engine->dialect->render(conversation, &writer, &prompt->thinking, &error) < 0)
		return ds_refuse_chat(-EINVAL, &error, failure);
	end_run(&runs);
	return runs_result(&runs, failure);
}

int ds_prompt_from_messages(struct ds_prompt *prompt, const struct ds_engine *engine, const json_t *messages,
			    const json_t *tools, const json_t *thinking, struct ds_failure *failure)
{
	ds_cleanup(ds_chat_freep) struct ds_chat *chat = NULL;
	struct ds_error error = {{0}};
	int r;

	if (!engine->tokenizer_ops)
		return ds_refuse(failure, DS_NO_TOKENIZER, NULL, "the model has no tokenizer: it takes token ids only");
	if (!engine->dialect)
		return ds_refuse(failure, DS_NO_DIALECT, NULL, "the model has no chat format: it completes text only");
	r = ds_chat_new(&chat, messages, tools, thinking, &error);
	if (r < 0)
		return ds_refuse_chat(r, &error, failure);
	return render(prompt, engine, ds_chat_conversation(chat), failure);
}

int ds_prompt_from_text(struct ds_prompt *prompt, const struct ds_engine *engine, const char *text, size_t size,
			struct ds_failure *failure)
{
	const struct ds_vocabulary *v = engine->vocabulary;
	ds_cleanup(runs_deinit) struct runs runs = {.engine = engine, .prompt = prompt};

	if (!engine->tokenizer_ops)
		return ds_refuse(failure, DS_NO_TOKENIZER, NULL, "the model has no tokenizer: it takes token ids only");
	encode(&runs, text, size, DS_TOKENIZE_SPECIAL);
	if (v->add_bos && v->bos != DS_NO_TOKEN && (prompt->n == 0 || prompt->tokens[0] != v->bos)) {
		add_tokens(&runs, &v->bos, 1);
		if (runs.result == 0 && prompt->n > 1) {
			memmove(prompt->tokens + 1, prompt->tokens, (prompt->n - 1) * sizeof(*prompt->tokens));
			prompt->tokens[0] = v->bos;
		}
	}
	return runs_result(&runs, failure);
}

int ds_prompt_from_ids(struct ds_prompt *prompt, const struct ds_engine *engine, const json_t *ids, const char *param,
		       struct ds_failure *failure)
{
	size_t i;
	const json_t *id;

	prompt->tokens = malloc((json_array_size(ids) + 1) * sizeof(*prompt->tokens));
	if (!prompt->tokens)
		return no_memory(failure);
	json_array_foreach(ids, i, id) {
		if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= engine->hparams->vocab)
			return ds_refuse(failure, DS_INVALID_REQUEST, param, "%s[%zu] is not a token id from 0 to %u", param,
					 i, engine->hparams->vocab - 1);
		prompt->tokens[prompt->n++] = (uint32_t)json_integer_value(id);
	}
	return 0;
}
