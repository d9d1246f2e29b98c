/* loader.h - the conversation of ds-loader: with the broker FILES... LOAD, PLAN, GO, PROGRESS... LOADED, in this order;
 * with dsctl FILES..., one request, PROGRESS... ANSWER (requests.h).
 *
 * Whatever goes wrong ends it: the other side gets FAILED with a code and a sentence that names the file and the
 * tensor. */
#pragma once

#include <deepseekd/backend.h>

#include "plugins.h"

/* Serve one load or one request over @socket. 0: the image is filled and LOADED is sent, or dsctl got its answer. -EPIPE: who
 * asked is gone. Any other failure was also sent, as FAILED. */
int ds_loader_serve(int socket, const struct ds_plugins *plugins, struct ds_error *err);

/* What an engine will need for a model of these hyperparameters, in bytes: its cache a token; besides cache and
 * weights. */
uint64_t ds_loader_kv_size(const struct ds_hparams *h, enum ds_precision precision, const char *kv_type);
uint64_t ds_loader_scratch_size(const struct ds_hparams *h, uint64_t parallel);
