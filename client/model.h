/* model.h - what a user names a model by: a path, whose files dsctl reads on its own, or the name of a registered
 * model, whose engine is asked. */
#pragma once

#include "loader.h"
#include "verb.h"

/* What has a slash or is there is a path; any other word is a name. */
bool ds_model_is_path(const char *word);

/* Is @word the name of @model, an object of the daemon's status, or one of its aliases? */
bool ds_model_is_called(const json_t *model, const char *word);

/* Ask the files at the path @word with message @request, or POST to the route @action of the model @word. The caller
 * owns *@answer. */
int ds_model_ask(struct ds_client *client, const char *word, uint16_t request, const char *action, const json_t *json,
		 json_t **answer, struct ds_error *err);

/* What a model at @path is called if nothing in it says so: the last component, without .gguf. The caller owns it;
 * NULL: no memory, or not UTF-8. */
json_t *ds_model_name_of(const char *path);
