/* parts.h - what the files of daemon/bus share: one file an interface, and what those have in common.
 *
 *   bus.c       the connection             manager.c  org.deepseekd1.Manager
 *   caller.c    who calls, and may it      model.c    org.deepseekd1.Model
 *   errors.c    names of errors            request.c  a request from its call to its end
 *   options.c   a{sv} of Generate          object.c   org.deepseekd1.Request, for its owner alone
 *   stream.c    an answer through a pipe   inhibit.c  Inhibit(), and the descriptor that ends it
 *   whole.c     an answer in a reply       objects.c  ObjectManager, filtered by who asks
 *   sleep.c     the machine sleeps         keys.c     org.deepseekd1.Keys
 *
 * A handler returns as sd-bus wants it: negative, an errno becomes the reply; 1, it was answered, or will be. */
#pragma once

#include "../access.h"
#include "bus.h"

#include <systemd/sd-bus.h>

#define DS_BUS_MANAGER "org.deepseekd1.Manager"
#define DS_BUS_KEYS "org.deepseekd1.Keys"
#define DS_BUS_MODEL "org.deepseekd1.Model"
#define DS_BUS_REQUEST "org.deepseekd1.Request"
#define DS_BUS_MODEL_PATH DS_BUS_PATH "/model"
#define DS_BUS_REQUEST_PATH DS_BUS_PATH "/request"

struct event;

struct ds_bus {
	struct ds_bus_spec spec;
	sd_bus *bus;
	struct event *event;
	bool in_handler;
	struct ds_bus_request *requests;
	struct ds_bus_inhibitor *inhibitors;
	struct ds_bus_known_model *models; /* as the bus was told last */
	struct event *models_timer;
	struct ds_bus_sleep *sleep; /* NULL: not on the system's bus */
};

/* bus.c */

/* After something was sent outside of a handler. */
void ds_bus_flush(struct ds_bus *bus);

/* caller.c: ask the bus who sent @m; @then gets the answer, which it may reference, and @m until it returns. Whatever
 * it leaves behind for that client has to end when its name vanishes from the bus (bus.c). */
typedef int ds_bus_then_fn(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject);
int ds_bus_with_subject(struct ds_bus *bus, sd_bus_message *m, ds_bus_then_fn *then);
/* The same, and only if the sender may do @action; else it gets AccessDenied or InteractiveAuthorizationRequired.
 * @details: as of struct ds_access_question, at most 8 pairs. */
int ds_bus_with_access(struct ds_bus *bus, sd_bus_message *m, enum ds_action action, const char *const *details,
		       ds_bus_then_fn *then);

/* errors.c */
#define DS_BUS_NO_SUCH_MODEL "org.deepseekd1.Error.NoSuchModel"
#define DS_BUS_LOAD_FAILED "org.deepseekd1.Error.LoadFailed"
#define DS_BUS_RELOAD_FAILED "org.deepseekd1.Error.ReloadFailed"
#define DS_BUS_HANDLE_IN_USE "org.deepseekd1.Error.HandleInUse"
#define DS_BUS_CANCELLED "org.deepseekd1.Error.Cancelled"

/* Answer @m with an error. Returns 1. */
__attribute__((format(printf, 3, 4))) int ds_bus_refuse(sd_bus_message *m, const char *error, const char *fmt, ...);
/* The name of the error for a code of FAILED. */
const char *ds_bus_error_name(const char *code);

/* options.c: what a call of Generate or Complete asks for. Texts are borrowed from the message. */
struct ds_bus_wish {
	json_t *generate; /* the payload of GENERATE, but what the request was given to read */
	const char *input;
	const char *system, *messages, *tools; /* NULL: not given; the latter two are JSON */
	const char *token;                     /* the name of the request; NULL: any */
	bool is_whole;                         /* Complete */
	bool json;                             /* lines of JSON; else the text of the answer alone */
	bool raw;                              /* go on with the input as it is */
};

/* Read input and options, the rest of @m. 0: @wish is filled, free generate; 1: answered. */
int ds_bus_options_read(const struct ds_daemon *daemon, sd_bus_message *m, struct ds_bus_wish *wish);

/* request.c */
enum ds_bus_request_state {
	DS_BUS_QUEUED,
	DS_BUS_PREFILL,
	DS_BUS_RUNNING,
	DS_BUS_DONE,
};

/* One call of Generate or Complete; object.c shows it. */
struct ds_bus_request {
	struct ds_bus_request *next;
	struct ds_bus *bus;
	struct ds_subject *owner; /* referenced */
	struct ds_model *model;   /* likewise */
	sd_bus_message *call;     /* likewise; NULL: answered */
	struct ds_bus_wish wish;
	struct evbuffer *texts; /* JSON to read */
	struct ds_body *work;   /* on what goes to the engine */
	struct ds_request *request;
	struct ds_bus_stream *stream; /* of Generate */
	struct ds_bus_whole *whole;   /* of Complete */
	enum ds_bus_request_state state;
	bool is_announced;
	struct ds_usage usage;       /* so far */
	const char *outcome;         /* NULL: not over */
	char code[64], message[512]; /* of a failure */
	char path[];
};

/* A call of Generate (out: o, h) or Complete (s, a{sv}), with its arguments unread. */
int ds_bus_request_call(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *owner, bool is_whole);
void ds_bus_request_cancel(struct ds_bus_request *r);           /* and end its life */
void ds_bus_requests_end(struct ds_bus *bus, const char *name); /* of this client, without a word; NULL: all */

/* object.c */

/* The folder below DS_BUS_REQUEST_PATH of a client's requests: "1_42" for :1.42. */
void ds_bus_object_folder(char *out, size_t size, const char *bus_name);
int ds_bus_object_on_call(sd_bus_message *m, void *bus, sd_bus_error *error);
bool ds_bus_object_is_visible(const struct ds_bus_request *r, const struct ds_subject *to);
int ds_bus_object_append(sd_bus_message *m, const struct ds_bus_request *r); /* its entry of GetManagedObjects */
/* Signals, to the owner's connection alone. */
void ds_bus_object_added(struct ds_bus_request *r);
void ds_bus_object_changed(struct ds_bus_request *r);
void ds_bus_object_finished(struct ds_bus_request *r);
int ds_bus_usage_append(sd_bus_message *m, const struct ds_bus_request *r); /* entries of an open a{sv} */

/* stream.c: a pipe whose reading end the client has. */
struct ds_bus_stream_events {
	void (*on_room)(void *arg); /* what was put has left */
	void (*on_gone)(void *arg); /* nobody reads any more */
};

/* *@reader is the caller's to hand over and close. */
int ds_bus_stream_new(struct ds_bus_stream **out, struct ds_daemon *daemon, bool json, int *reader,
		      const struct ds_bus_stream_events *events, void *arg);
struct ds_bus_stream *ds_bus_stream_free(struct ds_bus_stream *s);                   /* takes NULL, returns NULL */
int ds_bus_stream_put(struct ds_bus_stream *s, const struct ds_request_event *text); /* -EILSEQ: not UTF-8 */
void ds_bus_stream_end(struct ds_bus_stream *s, const struct ds_bus_request *r);     /* the last line */
bool ds_bus_stream_is_full(const struct ds_bus_stream *s);
bool ds_bus_stream_is_empty(const struct ds_bus_stream *s);

/* whole.c: an answer that is gathered. */
struct ds_bus_whole *ds_bus_whole_new(void);
struct ds_bus_whole *ds_bus_whole_free(struct ds_bus_whole *w);                    /* takes NULL, returns NULL */
int ds_bus_whole_put(struct ds_bus_whole *w, const struct ds_request_event *text); /* -EFBIG: longer than a reply */
int ds_bus_whole_reply(struct ds_bus_whole *w, const struct ds_bus_request *r);

/* inhibit.c */
int ds_bus_inhibit(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject);
void ds_bus_inhibitors_end(struct ds_bus *bus, const char *name); /* of this client; NULL: all */

/* model.c */
extern const sd_bus_vtable ds_bus_model[];
int ds_bus_models_new(struct ds_bus *bus);
void ds_bus_models_free(struct ds_bus *bus);
int ds_bus_models_append(struct ds_bus *bus, sd_bus_message *m); /* their entries of GetManagedObjects */
/* Calls of somebody who may: answered when the model called @name has settled. */
int ds_bus_model_load(struct ds_bus *bus, sd_bus_message *m, const char *name);
int ds_bus_model_unload(struct ds_bus *bus, sd_bus_message *m, const char *name);

/* manager.c, keys.c, objects.c */
extern const sd_bus_vtable ds_bus_manager[];
extern const sd_bus_vtable ds_bus_keys[];
int ds_bus_objects_on_call(sd_bus_message *m, void *bus, sd_bus_error *error);

/* sleep.c: sleep and wake of the machine; ends before @bus does */
int ds_bus_sleep_new(struct ds_bus_sleep **out, struct ds_bus *owner, sd_bus *bus);
struct ds_bus_sleep *ds_bus_sleep_free(struct ds_bus_sleep *sleep); /* takes NULL, returns NULL */
