/* loader.h - the conversation of ds-loader with the broker: FILES... LOAD, PLAN, GO, PROGRESS... LOADED, in this order.
 *
 * Whatever goes wrong ends it: the broker gets FAILED with a code and a sentence that names the file and the tensor. */
#pragma once

#include "plugins.h"

/* Serve one load over @socket. 0: the image is filled and LOADED is sent. -EPIPE: the broker is gone. Any other failure
 * was also sent. */
int ds_loader_serve(int socket, const struct ds_plugins *plugins, struct ds_error *err);
