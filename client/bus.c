/* bus.c - calls to org.deepseekd1 on the system bus, and the agent that asks for passwords meanwhile. */
#include "bus.h"
#include "output.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-login.h>

#define AGENT "/usr/bin/pkttyagent"

static const struct {
	const char *name;
	int result;
} errors[] = {
	{SD_BUS_ERROR_ACCESS_DENIED, -EACCES},
	{SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, -EACCES},
	{"org.deepseekd1.Error.NoSuchModel", -ENOENT},
	{"org.deepseekd1.Error.NoSuchKey", -ENOENT},
	{SD_BUS_ERROR_LIMITS_EXCEEDED, -EBUSY},
	{SD_BUS_ERROR_NO_REPLY, -ETIMEDOUT},
	{SD_BUS_ERROR_TIMEOUT, -ETIMEDOUT},
	{SD_BUS_ERROR_SERVICE_UNKNOWN, -ENOTCONN},
	{SD_BUS_ERROR_NAME_HAS_NO_OWNER, -ENOTCONN},
};

/* The agent */

static void run_agent(const char *address, int ready)
{
	char number[16];

	/* It must not outlive this program, which ends on an interrupt too. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (address)
		setenv("DBUS_SYSTEM_BUS_ADDRESS", address, 1);
	dup2(STDERR_FILENO, STDOUT_FILENO); /* the standard output is for data */
	snprintf(number, sizeof(number), "%d", ready);
	/* In a session its own agent, which draws a window, goes first. Outside of one polkit 122 never asks an agent
	 * that is a fallback. */
	execl(AGENT, AGENT, "--notify-fd", number, sd_pid_get_session(0, NULL) >= 0 ? "--fallback" : NULL, NULL);
	_exit(127);
}

/* It serves this process, and has said so when this returns. 0: none is there. */
static pid_t start_agent(const char *address)
{
	struct pollfd p;
	int ends[2];
	pid_t pid;

	if (!isatty(STDIN_FILENO) || !ds_output_is_terminal(stderr) || access(AGENT, X_OK) < 0 || pipe(ends) < 0)
		return 0;
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		run_agent(address, ends[1]);
	}
	close(ends[1]);
	/* It closes its end when it is registered, and so does its death. */
	p = (struct pollfd){.fd = ends[0], .events = POLLIN};
	while (pid > 0 && poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	close(ends[0]);
	return pid > 0 ? pid : 0;
}

static void stop_agent(const pid_t *pid)
{
	if (*pid <= 0)
		return;
	kill(*pid, SIGTERM);
	kill(*pid, SIGCONT);
	while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* The call */

/* Root and the daemon's user may do everything by the socket. A socket that was named belongs to that daemon, while
 * the bus has another one perhaps. */
static bool is_wanted(const struct ds_client *client)
{
	if (client->bus)
		return strcmp(client->bus, "none") != 0;
	return geteuid() != 0 && client->is_system;
}

static int open_bus(const struct ds_client *client, sd_bus **bus)
{
	int r;

	if (!client->bus || strcmp(client->bus, "system") == 0)
		return sd_bus_open_system(bus);
	r = sd_bus_new(bus);
	if (r >= 0)
		r = sd_bus_set_address(*bus, client->bus);
	if (r >= 0)
		r = sd_bus_set_bus_client(*bus, 1);
	return r >= 0 ? sd_bus_start(*bus) : r;
}

static int fail(const sd_bus_error *e, int r, struct ds_error *err)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(errors); i++)
		if (sd_bus_error_has_name(e, errors[i].name))
			return errors[i].result == -ENOTCONN ? -ENOTCONN
							     : ds_fail(err, errors[i].result, "%s", e->message);
	return ds_fail(err, r == -ETIMEDOUT ? r : -EREMOTEIO, "D-Bus: %s", e->message ? e->message : strerror(-r));
}

static int make_call(const struct ds_client *client, sd_bus *bus, const char *interface, const char *method,
		     const char *const *args, sd_bus_message **out)
{
	char name[64];
	int r;

	snprintf(name, sizeof(name), "org.deepseekd1.%s", interface);
	r = sd_bus_message_new_method_call(bus, out, "org.deepseekd1", "/org/deepseekd1", name, method);
	for (; r >= 0 && args && *args; args++)
		r = sd_bus_message_append(*out, "s", *args);
	if (r >= 0)
		r = sd_bus_message_set_allow_interactive_authorization(*out, !client->no_ask_password);
	return r;
}

static json_t *to_json(sd_bus_message *m)
{
	json_t *list;
	const char *text;
	uint64_t number;

	if (sd_bus_message_has_signature(m, "s"))
		return sd_bus_message_read(m, "s", &text) > 0 ? json_string(text) : NULL;
	if (!sd_bus_message_has_signature(m, "a(st)") || sd_bus_message_enter_container(m, 'a', "(st)") < 0)
		return NULL;
	list = json_array();
	while (sd_bus_message_read(m, "(st)", &text, &number) > 0)
		json_array_append_new(list, json_pack("[s, I]", text, (json_int_t)number));
	return list;
}

int ds_bus_call(const struct ds_client *client, const char *interface, const char *method, const char *const *args,
		json_t **out, struct ds_error *err)
{
	ds_cleanup(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
	ds_cleanup(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
	ds_cleanup(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
	ds_cleanup(stop_agent) pid_t agent = 0;
	uint64_t usec = client->timeout > 0 ? (uint64_t)(client->timeout * 1e6) : UINT64_MAX;
	int r;

	if (!is_wanted(client))
		return -ENOTCONN;
	r = open_bus(client, &bus);
	if (r < 0)
		return client->bus ? ds_fail(err, -ECONNREFUSED, "D-Bus: %s", strerror(-r)) : -ENOTCONN;
	r = make_call(client, bus, interface, method, args, &call);
	if (r < 0)
		return ds_fail(err, r, "D-Bus: %s", strerror(-r));
	if (!client->no_ask_password && geteuid() != 0)
		agent = start_agent(client->bus && strcmp(client->bus, "system") != 0 ? client->bus : NULL);
	r = sd_bus_call(bus, call, usec, &e, &reply);
	if (r < 0)
		r = fail(&e, r, err);
	if (r == -ENOTCONN && client->bus)
		return ds_fail(err, -ECONNREFUSED, "no deepseekd is on the bus %s", client->bus);
	if (r < 0 || !out)
		return r < 0 ? r : 0;
	*out = to_json(reply);
	return *out ? 0 : ds_fail(err, -EREMOTEIO, "D-Bus: the answer to %s cannot be read", method);
}
