/* main.c - deepseekd from its start to its end: a table of contents of the broker. */
#include "bus/bus.h"
#include "confine.h"
#include "daemon.h"
#include "http/server.h"
#include "keys.h"
#include "listen.h"
#include "message-ids.h"
#include "metrics.h"
#include "observe.h"
#include "options.h"
#include "passed.h"
#include "plugins.h"
#include "pressure.h"
#include "service.h"
#include "store.h"

#include <event2/event.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#define STOP_S 5 /* running answers may take this long after SIGTERM */
#define CUT_S 2  /* and then clients this long to take the end of theirs */

struct program {
	struct ds_options options;
	struct ds_daemon daemon;
	struct ds_http *http, *tcp; /* NULL: not yet, or none */
	struct ds_bus *bus; /* NULL: none */
	struct ds_passed passed;
	struct ds_metrics *metrics;   /* NULL: nobody wants any */
	struct ds_pressure *pressure; /* NULL: unwatched */
	struct ds_listening listening;
	int tcp_fd; /* until it is served */
	char keys_path[PATH_MAX + 16];
	struct event *signals[4], *stop_timer, *stop_poll;
	bool aborted;
	int status; /* of exit */
};

static uint64_t clock_usec(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void log_problems(const struct ds_problems *problems)
{
	for (size_t i = 0; i < problems->n; i++)
		ds_log(LOG_ERR, "%s", problems->lines[i]);
}

/* What is not wrong, but most likely not meant. */
static void warn(const struct ds_options *options, const struct ds_config *config)
{
	ds_cleanup(ds_problems_deinit) struct ds_problems warnings = {0};

	ds_config_warn(config, &warnings);
	for (size_t i = 0; i < warnings.n; i++) {
		if (options->check_config)
			fprintf(stderr, "warning: %s\n", warnings.lines[i]);
		else
			ds_log(LOG_WARNING, "%s", warnings.lines[i]);
	}
}

static int load_config(const struct ds_options *options, struct ds_config **out)
{
	ds_cleanup(ds_problems_deinit) struct ds_problems problems = {0};
	int r = ds_config_load(out, options->config, options->layers, &problems);

	for (size_t i = 0; options->check_config && i < problems.n; i++)
		fprintf(stderr, "%s\n", problems.lines[i]);
	if (!options->check_config)
		log_problems(&problems);
	if (r == 0)
		warn(options, *out);
	return r;
}

static void set_log_level(const struct ds_config *config)
{
	static const struct {
		const char *name;
		int priority;
	} levels[] = {{"error", LOG_ERR},
		      {"warning", LOG_WARNING},
		      {"notice", LOG_NOTICE},
		      {"info", LOG_INFO},
		      {"debug", LOG_DEBUG}};

	for (size_t i = 0; i < DS_ARRAY_SIZE(levels); i++)
		if (!strcmp(levels[i].name, config->log_level))
			setlogmask(LOG_UPTO(levels[i].priority));
}

/* A configuration is in force: who depends on it follows. */
static int apply_config(struct program *p, struct ds_config *config, struct ds_error *err)
{
	if (strcmp(config->socket, p->daemon.config->socket) || config->mode != p->daemon.config->mode ||
	    strcmp(config->group, p->daemon.config->group) || strcmp(config->metrics, p->daemon.config->metrics) ||
	    strcmp(config->tcp, p->daemon.config->tcp))
		ds_log(LOG_WARNING, "listen.socket, metrics, mode, group and tcp change when the daemon is started again");
	ds_config_unref(p->daemon.config);
	p->daemon.config = config;
	set_log_level(config);
	ds_requests_configure(p->daemon.requests, config);
	if (p->http)
		ds_http_configure(p->http);
	if (p->tcp)
		ds_http_configure(p->tcp);
	return ds_models_apply(p->daemon.models, config, err);
}

static void log_refused_plugins(const json_t *catalog)
{
	const json_t *plugin;
	size_t i;

	json_array_foreach (catalog, i, plugin) {
		const char *state = json_string_value(json_object_get(plugin, "state"));
		const char *name = json_string_value(json_object_get(plugin, "name"));
		const char *reason = json_string_value(json_object_get(plugin, "reason"));

		if (state && strcmp(state, "ok"))
			ds_observe_plugin_refused(name ? name : "?", state, reason ? reason : "");
	}
}

static void begin_serving(struct program *p)
{
	struct ds_error err;
	int r = ds_http_new(&p->http, &p->daemon, ds_steal_fd(&p->listening.api), false, &err);

	if (r == 0 && p->tcp_fd >= 0)
		r = ds_http_new(&p->tcp, &p->daemon, ds_steal_fd(&p->tcp_fd), true, &err);
	if (r == 0 && p->listening.metrics >= 0)
		r = ds_metrics_new(&p->metrics, &p->daemon, ds_steal_fd(&p->listening.metrics), &err);
	if (r < 0) {
		ds_log(LOG_ERR, "%s", err.text);
		p->status = 1;
		event_base_loopbreak(p->daemon.base);
	}
}

/* What ds-loader says of the plugins of @config, while it says it. */
struct question {
	struct program *program;
	struct ds_config *config; /* referenced */
	bool reload;
	ds_bus_reloaded_fn *done; /* of a reload that somebody waits for, else NULL */
	void *done_arg;
};

/* Do the options of plugins and samplers in @config exist? All problems are logged. */
static bool options_hold(const struct ds_config *config, const json_t *catalog)
{
	ds_cleanup(ds_problems_deinit) struct ds_problems problems = {0};

	ds_config_check_options(config, catalog, &problems);
	log_problems(&problems);
	return problems.n == 0;
}

static void take_catalog(struct program *p, json_t *catalog)
{
	json_decref(p->daemon.catalog);
	p->daemon.catalog = json_incref(catalog);
	log_refused_plugins(catalog);
}

/* At the start: serve, whatever is wrong with a plugin; models that need it will say so. */
static void on_first_catalog(struct program *p, json_t *catalog)
{
	ds_cleanup(json_decrefp) json_t *none = json_array();

	take_catalog(p, catalog ? catalog : none);
	options_hold(p->daemon.config, p->daemon.catalog);
	begin_serving(p);
	ds_service_ready(p->daemon.service, NULL);
}

#define REFUSED "The new configuration has errors; the old one is in force"

static void refuse_reload(struct program *p)
{
	p->daemon.n_refused_reloads++;
	ds_observe_daemon(LOG_ERR, DS_MESSAGE_CONFIG_REFUSED, "the configuration has errors: the old one stays in force");
	ds_service_ready(p->daemon.service, REFUSED);
	snprintf(p->daemon.reason, sizeof(p->daemon.reason), REFUSED);
}

/* A reload: all of the new configuration is in force, or nothing of it. */
static void on_new_catalog(struct program *p, struct ds_config *config, json_t *catalog)
{
	struct ds_error err;

	if (!catalog || !options_hold(config, catalog)) {
		refuse_reload(p);
		return;
	}
	p->daemon.reason[0] = '\0';
	take_catalog(p, catalog);
	if (apply_config(p, ds_config_ref(config), &err) < 0)
		ds_log(LOG_ERR, "%s", err.text);
	p->daemon.n_reloads++;
	ds_observe_daemon(LOG_NOTICE, DS_MESSAGE_CONFIG_APPLIED, "the configuration was read again: %zu models",
			  config->n_models);
	ds_service_ready(p->daemon.service, NULL);
}

static void on_catalog(void *arg, json_t *catalog, const char *reason)
{
	struct question *q = arg;
	struct program *p = q->program;

	if (!catalog)
		ds_log(LOG_ERR, "the plugins cannot be described: %s", reason);
	if (!p->daemon.stopping && q->reload)
		on_new_catalog(p, q->config, catalog);
	else if (!p->daemon.stopping)
		on_first_catalog(p, catalog);
	ds_bus_state_changed(p->bus);
	if (q->done)
		q->done(q->done_arg, p->daemon.stopping ? "the daemon is shutting down"
				     : p->daemon.reason[0] ? p->daemon.reason
							   : NULL);
	json_decref(catalog);
	ds_config_unref(q->config);
	free(q);
}

/* Takes over the reference to @question's config. */
static void ask_plugins(const struct question *question)
{
	struct question *q = malloc(sizeof(*q));
	struct program *p = question->program;
	struct ds_error err;

	if (!q) {
		ds_config_unref(question->config);
		ds_log(LOG_ERR, "no memory to ask about the plugins");
		if (question->done)
			question->done(question->done_arg, "no memory");
		return;
	}
	*q = *question;
	if (ds_plugins_ask(p->daemon.helpers, p->daemon.models, q->config, on_catalog, q, &err) < 0)
		on_catalog(q, NULL, err.text);
}

/* A file that is wrong changes nothing. @done may be NULL. */
static void reload(void *arg, ds_bus_reloaded_fn *done, void *done_arg)
{
	struct program *p = arg;
	struct question q = {.program = p, .reload = true, .done = done, .done_arg = done_arg};

	ds_service_reloading(p->daemon.service);
	if (load_config(&p->options, &q.config) == 0) {
		ask_plugins(&q);
		return;
	}
	refuse_reload(p);
	ds_bus_state_changed(p->bus);
	if (done)
		done(done_arg, p->daemon.reason);
}

/* SIGHUP */
static void on_reload(evutil_socket_t fd, short what, void *arg)
{
	reload(arg, NULL, NULL);
}

/* Everything has ended in good order, or time is up. */
static void on_stop_poll(evutil_socket_t fd, short what, void *arg)
{
	struct program *p = arg;

	if ((!p->http || ds_http_n_calls(p->http) == 0) && (!p->tcp || ds_http_n_calls(p->tcp) == 0) &&
	    ds_bus_is_idle(p->bus) &&
	    ds_models_are_stopped(p->daemon.models))
		event_base_loopbreak(p->daemon.base);
}

/* The first time answers are ended; the second time nobody is waited for any more. */
static void on_stop_time(evutil_socket_t fd, short what, void *arg)
{
	struct program *p = arg;

	if (p->aborted) {
		event_base_loopbreak(p->daemon.base);
		return;
	}
	ds_log(LOG_NOTICE, "answers that still ran are ended");
	p->aborted = true;
	ds_requests_abort(p->daemon.requests);
	event_add(p->stop_timer, &(struct timeval){.tv_sec = CUT_S});
}

/* SIGTERM, SIGINT: finish what runs; the second time: at once. */
static void on_stop(evutil_socket_t fd, short what, void *arg)
{
	struct program *p = arg;

	if (p->daemon.stopping) {
		event_base_loopbreak(p->daemon.base);
		return;
	}
	p->daemon.stopping = true;
	ds_service_stopping(p->daemon.service, STOP_S + CUT_S + 5);
	ds_observe_daemon(LOG_NOTICE, DS_MESSAGE_STOPPING, "stopping");
	ds_bus_state_changed(p->bus);
	if (p->http)
		ds_http_stop_accepting(p->http);
	if (p->tcp)
		ds_http_stop_accepting(p->tcp);
	ds_requests_stop(p->daemon.requests);
	ds_models_stop(p->daemon.models, STOP_S + 1);
	event_add(p->stop_timer, &(struct timeval){.tv_sec = STOP_S});
	event_add(p->stop_poll, &(struct timeval){.tv_usec = 20000});
}

static int watch_signals(struct program *p)
{
	static const struct {
		int signal;
		event_callback_fn call;
	} table[] = {{SIGTERM, on_stop}, {SIGINT, on_stop}, {SIGHUP, on_reload}};

	signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; i < DS_ARRAY_SIZE(table); i++) {
		p->signals[i] = evsignal_new(p->daemon.base, table[i].signal, table[i].call, p);
		if (!p->signals[i] || event_add(p->signals[i], NULL) < 0)
			return -ENOMEM;
	}
	p->stop_timer = evtimer_new(p->daemon.base, on_stop_time, p);
	p->stop_poll = event_new(p->daemon.base, -1, EV_PERSIST, on_stop_poll, p);
	return p->stop_timer && p->stop_poll ? 0 : -ENOMEM;
}

/* Models concern the requests first, and then the status. */
static void on_model_change(void *arg, struct ds_model *model)
{
	struct program *p = arg;

	ds_requests_models_events.on_change(p->daemon.requests, model);
	ds_service_changed(p->daemon.service);
}

static int on_model_batch(void *arg, struct ds_model *model, const uint8_t *batch, size_t size, struct ds_error *err)
{
	return ds_requests_models_events.on_batch(((struct program *)arg)->daemon.requests, model, batch, size, err);
}

static void on_model_engine_end(void *arg, struct ds_model *model, const char *reason)
{
	ds_requests_models_events.on_engine_end(((struct program *)arg)->daemon.requests, model, reason);
}

static const struct ds_models_events models_events = {
	.on_change = on_model_change,
	.on_batch = on_model_batch,
	.on_engine_end = on_model_engine_end,
};

static bool is_idle(void *arg)
{
	struct program *p = arg;
	size_t n_running, n_waiting;

	ds_requests_count(p->daemon.requests, NULL, &n_running, &n_waiting);
	return p->daemon.catalog && n_running + n_waiting == 0 && (!p->http || ds_http_n_calls(p->http) == 0) &&
	       (!p->tcp || ds_http_n_calls(p->tcp) == 0) && ds_bus_is_idle(p->bus) && p->daemon.n_inhibitors == 0;
}

static void on_idle_exit(void *arg)
{
	on_stop(-1, 0, arg);
}

/* The parts that need no configuration. */
static int make_parts(struct program *p, struct ds_error *err)
{
	struct ds_models_spec spec = {.libexec_dir = p->options.libexec_dir,
				      .plugin_dir = p->options.plugin_dir,
				      .events = &models_events};
	int r;

	p->daemon.started_usec = (int64_t)clock_usec(CLOCK_REALTIME);
	p->daemon.base = event_base_new();
	if (!p->daemon.base)
		return ds_fail(err, -ENOMEM, "no event loop");
	r = ds_jobs_new(&p->daemon.jobs, p->daemon.base, err);
	if (r == 0)
		r = ds_helpers_new(&p->daemon.helpers, p->daemon.base, err);
	if (r == 0)
		r = ds_requests_new(&p->daemon.requests, err);
	if (r == 0)
		r = ds_store_new(&p->daemon.store, &p->passed, err);
	spec.base = p->daemon.base;
	spec.store = p->daemon.store;
	spec.helpers = p->daemon.helpers;
	spec.arg = p;
	if (r == 0)
		r = ds_models_new(&p->daemon.models, &spec, err);
	return r;
}

static void deinit_program(struct program *p)
{
	p->daemon.stopping = true;
	if (p->daemon.requests)
		ds_requests_stop(p->daemon.requests);
	if (p->daemon.models)
		ds_models_stop(p->daemon.models, 0);
	ds_helpers_free(p->daemon.helpers); /* whoever waits for one is told while its wire is still there */
	ds_metrics_free(p->metrics);
	ds_http_free(p->http);
	ds_http_free(p->tcp);
	ds_bus_free(p->bus);
	ds_pressure_free(p->pressure);
	ds_models_free(p->daemon.models);
	ds_requests_free(p->daemon.requests);
	ds_store_free(p->daemon.store);
	ds_service_free(p->daemon.service);
	ds_jobs_free(p->daemon.jobs);
	for (size_t i = 0; i < DS_ARRAY_SIZE(p->signals); i++)
		if (p->signals[i])
			event_free(p->signals[i]);
	if (p->stop_timer)
		event_free(p->stop_timer);
	if (p->stop_poll)
		event_free(p->stop_poll);
	if (p->daemon.base)
		event_base_free(p->daemon.base);
	ds_listen_close(&p->listening);
	ds_passed_deinit(&p->passed);
	if (p->tcp_fd >= 0)
		close(p->tcp_fd);
	ds_keys_free(p->daemon.keys);
	json_decref(p->daemon.catalog);
	ds_config_unref(p->daemon.config);
	ds_options_deinit(&p->options);
}

/* --check-config: the files, and the options of plugins and samplers against what ds-loader says there is. */
static void on_checked(void *arg, json_t *catalog, const char *reason)
{
	struct program *p = arg;
	ds_cleanup(ds_problems_deinit) struct ds_problems problems = {0};

	if (catalog) {
		log_refused_plugins(catalog);
		ds_config_check_options(p->daemon.config, catalog, &problems);
		for (size_t i = 0; i < problems.n; i++)
			fprintf(stderr, "%s\n", problems.lines[i]);
	} else {
		ds_log(LOG_ERR, "the plugins cannot be described: %s", reason);
	}
	p->status = catalog && problems.n == 0 ? 0 : 1;
	json_decref(catalog);
	event_base_loopbreak(p->daemon.base);
}

/* Not an error, but not what one would expect either. */
static void note_idle_exit(const struct ds_config *config)
{
	if (DS_STORE_PRESERVED || config->idle_exit_usec == DS_CONFIG_NEVER)
		return;
	for (size_t i = 0; i < config->n_models; i++)
		if (config->models[i].pin || config->models[i].keep_alive_usec == DS_CONFIG_NEVER) {
			printf("idle_exit will not happen once model %s is loaded: it stays, and this systemd keeps no image of a "
			       "service that has ended\n",
			       config->models[i].name);
			return;
		}
}

static int check_config(struct program *p)
{
	struct ds_error err;

	if (ds_plugins_ask(p->daemon.helpers, p->daemon.models, p->daemon.config, on_checked, p, &err) < 0) {
		ds_log(LOG_ERR, "%s", err.text);
		return 1;
	}
	event_base_dispatch(p->daemon.base);
	if (p->status == 0)
		note_idle_exit(p->daemon.config);
	if (p->status == 0)
		printf("the configuration is valid: %zu model%s\n", p->daemon.config->n_models,
		       p->daemon.config->n_models == 1 ? "" : "s");
	return p->status;
}

/* Its directory of work is the state directory: nothing relative is ever meant by where it was started. */
static void enter_state_dir(const char *dir)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", dir);
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(path, 0755);
		*slash = '/';
	}
	mkdir(path, 0750);
	if (chdir(path) < 0 && chdir("/") < 0)
		ds_log(LOG_WARNING, "%s: %s", dir, strerror(errno));
}

static void on_bus_lost(void *arg)
{
	struct program *p = arg;

	p->status = 1;
	event_base_loopbreak(p->daemon.base);
}

/* Without a bus the daemon does as well, unless one was asked for. */
static int join_bus(struct program *p, struct ds_error *err)
{
	const struct ds_options *o = &p->options;
	struct ds_bus_spec spec = {.daemon = &p->daemon,
				   .address = o->bus == DS_BUS_ADDRESS ? o->bus_address : NULL,
				   .is_system = o->bus == DS_BUS_SYSTEM || (o->bus == DS_BUS_DEFAULT && o->uses_system),
				   .must = o->bus != DS_BUS_DEFAULT,
				   .on_lost = on_bus_lost,
				   .reload = reload,
				   .arg = p};
	int r = o->bus == DS_BUS_NONE ? 0 : ds_bus_new(&p->bus, &spec, err);

	if (r < 0 && !spec.must) {
		ds_log(LOG_NOTICE, "%s; going on without it", err->text);
		r = 0;
	}
	return r;
}

static int begin_service(struct program *p, struct ds_error *err)
{
	struct ds_service_spec spec = {.daemon = &p->daemon,
				       .is_activated = !p->listening.api_path[0],
				       .is_idle = is_idle,
				       .on_idle_exit = on_idle_exit,
				       .arg = p};

	return ds_service_new(&p->daemon.service, &spec, err);
}

/* The keys are there without TCP too, so that they can be made before. */
static int open_tcp(struct program *p, struct ds_error *err)
{
	int r;

	snprintf(p->keys_path, sizeof(p->keys_path), "%s/keys.json", p->options.state_dir);
	r = ds_keys_new(&p->daemon.keys, p->keys_path, err);
	if (r == 0 && p->daemon.config->tcp[0])
		r = p->tcp_fd = ds_listen_tcp(p->daemon.config, err);
	return r < 0 ? r : 0;
}

static void on_pressure(void *arg)
{
	struct program *p = arg;

	ds_models_relieve(p->daemon.models);
}

static int run(struct program *p)
{
	struct ds_error err;
	int r = ds_passed_init(&p->passed, &err);

	if (r == 0)
		r = make_parts(p, &err);
	if (r == 0 && p->options.check_config)
		return check_config(p);
	if (r == 0 && watch_signals(p) < 0)
		r = ds_fail(&err, -ENOMEM, "no memory");
	if (r == 0)
		r = ds_listen_open(&p->listening, p->daemon.config, &p->passed, p->options.runtime_dir, &err);
	if (r >= 0)
		r = begin_service(p, &err);
	if (r >= 0) {
		enter_state_dir(p->options.state_dir);
		r = apply_config(p, ds_config_ref(p->daemon.config), &err);
	}
	if (r >= 0)
		ds_store_drop_unclaimed(p->daemon.store);
	if (r >= 0)
		r = open_tcp(p, &err);
	if (r >= 0)
		r = join_bus(p, &err);
	if (r >= 0)
		r = ds_pressure_new(&p->pressure, p->daemon.base, on_pressure, p, &err);
	if (r < 0) {
		ds_log(LOG_ERR, "%s", err.text);
		sd_notifyf(0, "STATUS=%s\nERRNO=%d", err.text, -r);
		return 1;
	}
	ds_observe_daemon(LOG_NOTICE, DS_MESSAGE_STARTED, "deepseekd %s, %zu models, %s", PACKAGE_VERSION,
			  p->daemon.config->n_models,
			  p->listening.api_path[0] ? p->listening.api_path : "a socket of systemd's");
	ask_plugins(&(struct question){.program = p, .config = ds_config_ref(p->daemon.config)});
	event_base_dispatch(p->daemon.base);
	return p->status;
}

/* Clients, streams and the files of a model being loaded are more than the 1024 that a process begins with. */
static void allow_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			ds_log(LOG_WARNING, "no more descriptors: %s", strerror(errno));
	}
}

/* Helpers inherit 0, 1 and 2: one that is closed would be the next socket opened, theirs too. */
static void fill_standard_descriptors(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	ds_cleanup(deinit_program) struct program p = {.listening = {.api = -1, .metrics = -1}, .tcp_fd = -1};
	struct ds_error err;
	int r;

	/* Large bodies and answers go back to the system as soon as they are freed. */
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	mallopt(M_TRIM_THRESHOLD, 256 << 10);
	setlogmask(LOG_UPTO(LOG_INFO));
	fill_standard_descriptors();
	allow_descriptors();
	r = ds_options_parse(&p.options, argc, argv);
	if (r != 0)
		return r < 0 ? 2 : 0;
	if (ds_confine_broker(&err) < 0) {
		ds_log(LOG_ERR, "%s", err.text);
		return 1;
	}
	if (load_config(&p.options, &p.daemon.config) < 0) {
		if (!p.options.check_config)
			ds_observe_daemon(LOG_ERR, DS_MESSAGE_CONFIG_REFUSED, "the configuration has errors: nothing starts");
		return 1;
	}
	return run(&p);
}
