/* loader.c - hands ds-loader the files of a path and a request, and takes its answer. */
#include "loader.h"
#include "child.h"

static int ask(const struct ds_loader_call *call, struct ds_child *child, const struct ds_files *files, json_t **answer,
	       struct ds_error *err)
{
	ds_cleanup(ds_message_deinit) struct ds_message m = {0};
	int r = ds_child_send_files(child, files, err);

	if (r == 0)
		r = ds_child_send(child, call->request, call->json, call->fd ? &call->fd : NULL, call->fd ? 1 : 0, err);
	/* Who was gone before all was said may still have said why. */
	if (r == 0 || r == -EPIPE)
		r = ds_child_await(child, DS_MSG_ANSWER, true, call->on_progress, call->self, &m, err);
	if (r < 0)
		return r;
	*answer = json_loadb((const char *)m.data, m.size, JSON_ALLOW_NUL, NULL);
	return *answer ? 0 : ds_fail(err, -EPROTO, "ds-loader: its answer is not JSON");
}

int ds_loader_run(const struct ds_loader_call *call, json_t **answer, struct ds_error *err)
{
	ds_cleanup(ds_files_deinit) struct ds_files files = {0};
	ds_cleanup(ds_child_deinit) struct ds_child child = {0};
	int r = ds_files_open(&files, call->path, err);

	if (r == 0)
		r = ds_child_start(&child, "ds-loader", err);
	return r < 0 ? r : ask(call, &child, &files, answer, err);
}
