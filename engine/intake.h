/* intake.h - turns requests into sequences, on a thread of its own: parsing and tokenising four megabytes may neither
 * delay an answer to PING nor anybody's next token. */
#pragma once

#include "message.h"
#include "outbox.h"

struct ds_compute;
struct ds_engine;
struct ds_intake;

/* All are borrowed. What is made of a request goes to @compute. */
int ds_intake_new(struct ds_intake **out, const struct ds_engine *engine, struct ds_outbox *outbox,
		  struct ds_compute *compute, struct ds_error *err);
/* Requests not yet looked at are dropped. Takes NULL, returns NULL. */
struct ds_intake *ds_intake_free(struct ds_intake *intake);

/* Take over a GENERATE or EVALUATE (zeroing *@m) whose events go to @outlet. -ENOMEM: the request was failed. */
int ds_intake_add(struct ds_intake *intake, struct ds_message *m, struct ds_outlet *outlet);
