/* metrics.h - OpenMetrics 1.0 on a socket of its own: GET /metrics, and nothing else.
 *
 * Series are per model and per outcome, never per user, so that their number is bounded by the configuration. */
#pragma once

#include "daemon.h"

struct evbuffer;
struct ds_metrics;

/* Serve the listening socket @fd (now owned). */
int ds_metrics_new(struct ds_metrics **out, struct ds_daemon *daemon, int fd, struct ds_error *err);
struct ds_metrics *ds_metrics_free(struct ds_metrics *metrics); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_metrics)

/* metrics-text.c: the whole exposition, "# EOF" included. */
void ds_metrics_write(struct evbuffer *out, const struct ds_daemon *daemon);
/* A label's value: backslash, double quote and line feed are escaped. */
void ds_metrics_write_escaped(struct evbuffer *out, const char *text);
