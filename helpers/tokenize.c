/* tokenize.c - TOKENIZE: texts to tokens and back with the vocabulary of the files, as lib/tokenize.h says. Files that
 * hold nothing but a vocabulary are enough. */
#include "describe.h"
#include "requests.h"
#include "tokenize.h"

struct tokenizing {
	const struct ds_request *request;
	json_t *answer;
};

/* A vocabulary lives as long as the call that tells of it: all is done in there. */
static int on_vocabulary(void *self, const struct ds_vocabulary *v, struct ds_error *err)
{
	struct tokenizing *to = self;
	struct ds_tokenizing t = {.host = ds_plugins_host()};
	const char *param;
	int r;

	t.ops = ds_plugins_find(to->request->plugins, DS_PLUGIN_TOKENIZER, v->tokenizer, NULL, err);
	if (!t.ops)
		return -ENOENT;
	r = t.ops->open(&t.self, t.host, v, err);
	if (r < 0)
		return r;
	r = ds_tokenize(&t, to->request->json, &to->answer, &param, err);
	t.ops->close(t.self);
	return r;
}

static int on_chat_template(void *self, const char *chat_template, struct ds_error *err)
{
	return 0;
}

int ds_request_tokenize(const struct ds_request *request, json_t **answer, struct ds_error *err)
{
	struct tokenizing to = {.request = request};
	struct ds_builder calls = {
		.size = sizeof(calls), .self = &to, .vocabulary = on_vocabulary, .chat_template = on_chat_template};
	int r = ds_describe(request->plugins, request->files, request->n_files, &calls, err);

	if (r == 0 && !to.answer)
		r = ds_fail(err, -ENOENT, "the files hold no vocabulary");
	if (r < 0)
		json_decref(to.answer);
	else
		*answer = to.answer;
	return r;
}
