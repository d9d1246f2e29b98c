# The broker. libdaemon.a is all of it but main(), so that unit tests can link it.
daemon_cppflags = $(AM_CPPFLAGS) -I$(top_srcdir)/lib $(CRYPT_CFLAGS) $(EVENT_CFLAGS) $(SYSTEMD_CFLAGS) $(YAML_CFLAGS) $(JANSSON_CFLAGS) \
	-DPLUGINDIR='"$(plugindir)"' -DHELPERDIR='"$(helperdir)"' -DVENDORDIR='"$(vendordir)"'

noinst_LIBRARIES += daemon/libdaemon.a
daemon_libdaemon_a_SOURCES = \
	daemon/access.c daemon/access.h \
	daemon/budget.c daemon/budget.h \
	daemon/bus/bus.c daemon/bus/bus.h \
	daemon/bus/caller.c \
	daemon/bus/errors.c \
	daemon/bus/inhibit.c \
	daemon/bus/keys.c \
	daemon/bus/manager.c \
	daemon/bus/model.c \
	daemon/bus/object.c \
	daemon/bus/objects.c \
	daemon/bus/options.c \
	daemon/bus/parts.h \
	daemon/bus/polkit.c daemon/bus/polkit.h \
	daemon/bus/request.c \
	daemon/bus/sleep.c \
	daemon/bus/stream.c \
	daemon/bus/whole.c \
	daemon/commands.c daemon/commands.h \
	daemon/config-table.c \
	daemon/config.c daemon/config.h \
	daemon/confine.c daemon/confine.h \
	daemon/counters.c daemon/counters.h \
	daemon/daemon.h \
	daemon/engines.c daemon/engines.h \
	daemon/groups.c daemon/groups.h \
	daemon/helpers.c daemon/helpers.h \
	daemon/http/admin.c \
	daemon/http/body.c daemon/http/body.h \
	daemon/http/models.c \
	daemon/http/openai-chat.c \
	daemon/http/openai-completions.c \
	daemon/http/openai.c daemon/http/openai.h \
	daemon/http/keys.c \
	daemon/http/reply.c daemon/http/reply.h \
	daemon/http/server.c daemon/http/server.h \
	daemon/http/tcp.c daemon/http/tcp.h \
	daemon/http/tokenize.c \
	daemon/jobs.c daemon/jobs.h \
	daemon/keys.c daemon/keys.h \
	daemon/listen.c daemon/listen.h \
	daemon/loading.c daemon/loading.h \
	daemon/log.c daemon/log.h \
	daemon/mapped.c daemon/mapped.h \
	daemon/message-ids.h \
	daemon/metrics-text.c \
	daemon/metrics.c daemon/metrics.h \
	daemon/model.c daemon/model.h \
	daemon/models.c daemon/models.h \
	daemon/observe.c daemon/observe.h \
	daemon/options.c daemon/options.h \
	daemon/passed.c daemon/passed.h \
	daemon/plugins.c daemon/plugins.h \
	daemon/pressure.c daemon/pressure.h \
	daemon/requests.c daemon/requests.h \
	daemon/sampling.c daemon/sampling.h \
	daemon/service.c daemon/service.h \
	daemon/store.c daemon/store.h \
	daemon/subject.c daemon/subject.h \
	daemon/units.c daemon/units.h \
	daemon/who.c daemon/who.h \
	daemon/yaml.c daemon/yaml.h
daemon_libdaemon_a_CPPFLAGS = $(daemon_cppflags)

daemon_libs = daemon/libdaemon.a lib/libds.a $(CRYPT_LIBS) $(EVENT_LIBS) $(SYSTEMD_LIBS) $(YAML_LIBS) $(JANSSON_LIBS) \
	$(SECCOMP_LIBS)

sbin_PROGRAMS += deepseekd
deepseekd_SOURCES = daemon/main.c
deepseekd_CPPFLAGS = $(daemon_cppflags)
deepseekd_LDADD = $(daemon_libs)
