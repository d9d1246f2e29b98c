/* serve.h - talks to the broker: takes messages in, sends events out, and never computes. */
#pragma once

#include "plugins.h"

/* Serve the broker at @socket until it says QUIT and all requests are done, or is gone: 0. A broker or an image that
 * breaks the rules is an error. @plugins are borrowed. */
int ds_serve(int socket, const struct ds_plugins *plugins, struct ds_error *err);
