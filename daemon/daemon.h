/* daemon.h - what the parts of the broker share: made by main.c, borrowed by all. */
#pragma once

#include "config.h"
#include "helpers.h"
#include "jobs.h"
#include "models.h"
#include "requests.h"
#include "service.h"

struct ds_daemon {
	struct event_base *base;
	struct ds_config *config; /* referenced: the one in force */
	struct ds_jobs *jobs;
	struct ds_helpers *helpers;
	struct ds_store *store;
	struct ds_models *models;
	struct ds_requests *requests;
	struct ds_service *service; /* NULL: not yet */
	struct ds_keys *keys;
	struct ds_polkit *polkit; /* the bus that is there has it; NULL: none */
	json_t *catalog;      /* what `ds-loader --describe-plugins` said last: an array */
	int64_t started_usec; /* CLOCK_REALTIME */
	bool stopping;
	char reason[256];      /* what is not as it should be, "": nothing; a sentence for people */
	unsigned n_inhibitors; /* of clients that want nothing unloaded, and no exit, for being idle (bus/inhibit.c) */
	uint64_t n_reloads, n_refused_reloads; /* of the configuration */
};

/* "starting", "running" or "stopping" */
static inline const char *ds_daemon_state(const struct ds_daemon *daemon)
{
	return daemon->stopping ? "stopping" : daemon->catalog ? "running" : "starting";
}
