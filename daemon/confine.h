/* confine.h - what the broker gives up for itself, and with it all of its helpers. */
#pragma once

#include <deepseekd/base.h>

/* From here on the process cannot be dumped or traced by its own user, gains no privileges, and cannot signal, trace or
 * look into any process but itself; its helpers it can kill by the descriptors that it got when it started them. */
int ds_confine_broker(struct ds_error *err);
