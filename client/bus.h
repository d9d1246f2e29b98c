/* bus.h - managing the daemon over D-Bus, where polkit decides; over the socket only root and the daemon's user may.
 *
 * While a call waits, pkttyagent asks for the password that polkit wants, if somebody sits at the terminal. */
#pragma once

#include "verb.h"

/* Call @method (of @interface, the last part of its name) with texts; @args ends with NULL, and NULL is none. *@out, if
 * @out is not NULL, gets the answer: a text, or for "a(st)" a list of [text, number]. Errors have the codes of exits[] in
 * main.c. -ENOTCONN, without a sentence: not for this caller or not on a bus, so ask by HTTP. */
int ds_bus_call(const struct ds_client *client, const char *interface, const char *method, const char *const *args,
		json_t **out, struct ds_error *err);
