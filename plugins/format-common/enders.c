/* enders.c - which tokens end an answer, whatever else a checkpoint says of that. */
#include "common.h"

#include <string.h>

/* No answer may contain them. */
static const char *const enders[] = {
	"<|EOT|>",
	"<|im_end|>",
	"<|eot_id|>",
	"<\xef\xbd\x9cUser\xef\xbd\x9c>",
};

uint32_t ds_added_id(const struct ds_vocabulary *v, const char *text)
{
	for (uint32_t id = 0; id < v->n_tokens; id++)
		if ((v->tokens[id].flags & DS_TOKEN_ADDED) && strcmp(v->tokens[id].text, text) == 0)
			return id;
	return DS_NO_TOKEN;
}

void ds_add_eos(struct ds_vocabulary *v, uint32_t id)
{
	if (id == DS_NO_TOKEN || v->n_eos == DS_MAX_EOS)
		return;
	for (uint32_t i = 0; i < v->n_eos; i++)
		if (v->eos[i] == id)
			return;
	v->eos[v->n_eos++] = id;
}

void ds_add_enders(struct ds_vocabulary *v)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(enders); i++)
		ds_add_eos(v, ds_added_id(v, enders[i]));
	ds_add_eos(v, v->bos);
}
