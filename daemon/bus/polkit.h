/* polkit.h - asks the system's authority, org.freedesktop.PolicyKit1, about a name on the bus; never waits for it.
 *
 * What it grants without a dialog is remembered, for that name, action and details, until the authority says that
 * something changed or is another one. What needed a dialog is not: it may have been granted once only. */
#pragma once

#include "../access.h"

#include <systemd/sd-bus.h>

struct ds_polkit_spec {
	sd_bus *bus;              /* referenced */
	void (*flush)(void *arg); /* something was sent, perhaps from outside of sd_bus_process() */
	void *arg;
};

int ds_polkit_new(struct ds_polkit **out, const struct ds_polkit_spec *spec);
/* Takes NULL, returns NULL. Open checks are denied. */
struct ds_polkit *ds_polkit_free(struct ds_polkit *polkit);

/* As ds_access_check(), of a subject that came by this bus. */
void ds_polkit_check(struct ds_polkit *polkit, const struct ds_access_question *question);
