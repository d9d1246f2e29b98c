/* outbox.h - the way out: events of every request, written by the threads that make them, sent by the serve thread.
 *
 * Each request has one outlet, opened by the serve thread when the request arrives. Events queue up in it without limit;
 * what keeps the queue short is that a sequence whose outlet is full takes no part in steps. Only as much leaves as the
 * client has given credit for. After DONE or FAILED the writer must not touch the outlet again: it is freed once that
 * event has left. All calls may come from any thread. */
#pragma once

#include "event.h"

struct ds_outbox;
struct ds_outlet;

int ds_outbox_new(struct ds_outbox **out, struct ds_error *err);
struct ds_outbox *ds_outbox_free(struct ds_outbox *box); /* takes NULL, returns NULL; frees the outlets too */
DS_DEFINE_FREEP(ds_outbox)

/* Becomes readable after ds_outbox_notify(), which whoever wrote events calls once for all of a step. */
int ds_outbox_fd(const struct ds_outbox *box);
void ds_outbox_notify(struct ds_outbox *box);

/* -EEXIST: the request is already there. *@out belongs to the outbox. */
int ds_outbox_open(struct ds_outbox *box, uint64_t request, struct ds_outlet **out, struct ds_error *err);
/* Of requests that are not there (any more) both do nothing. What a cancelled one has queued is dropped, and so is all it
 * writes but the closing event, which then needs no credit. */
void ds_outbox_cancel(struct ds_outbox *box, uint64_t request);
void ds_outbox_credit(struct ds_outbox *box, uint64_t request, uint32_t n);
bool ds_outbox_is_empty(struct ds_outbox *box);

/* Fill @batch (aligned to 8) with whole events that may leave, fairly among requests. Returns the bytes written; when
 * 0, the outbox's descriptor is silent until the next notify. */
size_t ds_outbox_collect(struct ds_outbox *box, uint8_t *batch, size_t size);

/* The largest text of one event: callers cut what is longer. */
#define DS_EVENT_TEXT_MAX (32u << 10)

/* Queue one event of at most DS_EVENT_TEXT_MAX bytes. Without memory the request's queue is given up and -ENOMEM comes
 * back: the request can then only be failed. */
int ds_outlet_write(struct ds_outlet *outlet, enum ds_event_type type, const void *data, size_t size);
/* More is queued than the client has room for. */
bool ds_outlet_is_full(struct ds_outlet *outlet);
bool ds_outlet_is_cancelled(struct ds_outlet *outlet);
