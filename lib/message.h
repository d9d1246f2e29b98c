/* message.h - what the broker and its helpers say to each other, over one SOCK_SEQPACKET socketpair a helper.
 *
 * A message is one datagram: a header of 24 bytes, then a payload of up to DS_MESSAGE_INLINE bytes. A larger payload
 * travels in a memfd, sealed by the sender, read by the receiver (flag DS_MESSAGE_IN_FD, the memfd is the last
 * descriptor). All numbers are little-endian. The receiver trusts nothing: truncation, a wrong magic or version, a size
 * that does not match, descriptors where none belong, are -EPROTO, everything received is closed, and the peer is given up.
 *
 * Which message may come when is a table of its receiver: {type, phases that allow it, function}. */
#pragma once

#include <deepseekd/base.h>

#define DS_MESSAGE_MAGIC 0x6b736444u /* "Ddsk" */
#define DS_MESSAGE_VERSION 1
#define DS_MESSAGE_INLINE 65536u
#define DS_MESSAGE_MAX (64u << 20) /* of a payload in a memfd */
#define DS_MAX_PARALLEL 256u /* "parallel" of LOAD and MAP */
#define DS_KV_PAGE_TOKENS 16u /* the KV cache of a text is whole pages of so many tokens */
#define DS_MESSAGE_FDS 200	   /* descriptors a message, the memfd of a payload not counted */

enum {
	DS_MESSAGE_IN_FD = 1u << 0,
};

/* payload, descriptors; JSON payloads are objects, described in docs/architecture.md, "Messages". */
enum ds_message_type {
	/* broker -> loader */
	DS_MSG_FILES = 1, /* JSON {"names": [...]}, one descriptor each, in order; repeated until all are sent */
	DS_MSG_LOAD,	  /* JSON {"model", "precision", "parallel", "kv_type", "backend", "dialect", "residency"}: begin */
	DS_MSG_GO,	  /* the memfd: fill it */
	/* loader -> broker */
	DS_MSG_PLAN,	 /* struct ds_plan */
	DS_MSG_PROGRESS, /* struct ds_progress */
	DS_MSG_LOADED,	 /* JSON {"architecture", "dialect", "parameters", "context", "files", ...}: what is in the image; then exit 0 */
	DS_MSG_FAILED,	 /* JSON {"code", "message"}: also engine -> broker, for what concerns no request */

	/* dsctl -> loader, after FILES: one of them, helpers/requests.h */
	DS_MSG_INSPECT = 16, /* no payload */
	DS_MSG_QUANTIZE = 17, /* JSON {"type", "name"}, and the file to write */
	DS_MSG_TOKENIZE = 20, /* JSON, tokenize.h; request: also broker -> engine */
	DS_MSG_RENDER,	      /* JSON, render.h; likewise */
	/* dsctl -> engine, in place of MAP */
	DS_MSG_BENCH, /* as MAP, with "bench", engine/bench.h */
	/* loader or engine -> dsctl; also PROGRESS before it, or FAILED in its place */
	DS_MSG_ANSWER = 24, /* JSON, as the request says */

	/* broker -> engine */
	DS_MSG_MAP = 32, /* the image, read-only, then the files it is mapped from; JSON as LOAD, and "context", "sampling", "plugins" */
	DS_MSG_GENERATE, /* request; JSON, see docs/architecture.md */
	DS_MSG_EVALUATE, /* request; JSON {"tokens": [...], "chunks": [...], "greedy": N, "mtp": bool} */
	DS_MSG_CANCEL,	 /* request; no answer */
	DS_MSG_CREDIT,	 /* request; u32: bytes of output the client has taken */
	DS_MSG_PING,	 /* u64, echoed by PONG within 100 ms */
	DS_MSG_QUIT,	 /* finish what runs, then exit 0 */
	/* engine -> broker */
	DS_MSG_READY,  /* JSON {"kv_tokens": N, "context": N}: mapped and able to serve */
	DS_MSG_EVENTS, /* a batch of events, event.h */
	DS_MSG_PONG,   /* u64 of the ping, then struct ds_engine_load */
};

/* The exit status of an engine that lost a page of a file it had mapped: somebody changed the file. */
#define DS_EXIT_FILE_CHANGED 75

struct ds_plan {
	uint64_t weights_size;	    /* bytes of all tensors */
	uint64_t mapped_size;	    /* of them, those that stay in their files */
	uint64_t kv_size_per_token; /* bytes, at the configured kv_type, all layers */
	uint64_t scratch_size;	    /* bytes the engine needs besides */
	uint64_t image_size;	    /* bytes of the memfd */
	uint64_t context;	    /* tokens of a text at most: the model's own limit */
};

struct ds_progress {
	uint64_t done, total; /* bytes written of the image */
};

struct ds_engine_load {
	uint32_t n_running, n_waiting; /* sequences that compute; those that wait for a place or for their client */
	uint64_t n_tokens;	       /* computed since the start, prompt and output */
	uint64_t kv_tokens_used, kv_tokens;
};

/* A message received. Owns its payload and descriptors until ds_message_deinit(). */
struct ds_message {
	uint16_t type;
	uint64_t request;
	uint8_t *data; /* [size], and a NUL after it */
	uint32_t size;
	int fds[DS_MESSAGE_FDS];
	unsigned n_fds;
};

void ds_message_deinit(struct ds_message *m); /* takes a zeroed one */

/* What the peer must know of descriptors: how many @type may carry at most. */
unsigned ds_message_max_fds(uint16_t type);

/* Send one message; the descriptors stay the caller's. @data may be NULL when @size is 0.
 * -EAGAIN: the socket is full (non-blocking sockets), nothing was sent. -EPIPE: the peer is gone. */
int ds_message_send(int socket, uint16_t type, uint64_t request, const void *data, size_t size, const int *fds,
		    unsigned n_fds);

/* Receive one message into a zeroed @m. -EAGAIN: none there. -EPIPE: the peer is gone. -EPROTO: the peer broke the
 * rules, @err says how. */
int ds_message_receive(int socket, struct ds_message *m, struct ds_error *err);

/* A connected pair, close-on-exec, with send buffers that hold a message of DS_MESSAGE_INLINE bytes. */
int ds_message_socketpair(int sockets[2]);
