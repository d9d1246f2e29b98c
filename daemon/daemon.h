/* daemon.h - what the parts of the broker share: made by main.c, borrowed by all. */
#pragma once

#include "config.h"
#include "helpers.h"
#include "jobs.h"
#include "models.h"
#include "requests.h"

struct ds_daemon {
	struct event_base *base;
	struct ds_config *config; /* referenced: the one in force */
	struct ds_jobs *jobs;
	struct ds_helpers *helpers;
	struct ds_models *models;
	struct ds_requests *requests;
	struct ds_keys *keys;
	struct ds_polkit *polkit; /* the bus that is there has it; NULL: none */
	json_t *catalog;      /* what `ds-loader --describe-plugins` said last: an array */
	int64_t started_usec; /* CLOCK_REALTIME */
	bool stopping;
	uint64_t n_reloads, n_refused_reloads; /* of the configuration */
};

/* "starting", "running" or "stopping" */
static inline const char *ds_daemon_state(const struct ds_daemon *daemon)
{
	return daemon->stopping ? "stopping" : daemon->catalog ? "running" : "starting";
}
