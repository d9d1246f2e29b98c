# dsctl: a verb is a file here and a row in main.c. Everything but main() is a library, so that its tests can have it.
noinst_LIBRARIES += client/libdsctl.a
client_libdsctl_a_SOURCES = \
	client/answer.c client/answer.h \
	client/bench.c client/bench.h \
	client/bus.c client/bus.h \
	client/child.c client/child.h \
	client/http.c client/http.h \
	client/loader.c client/loader.h \
	client/doctor-daemon.c client/doctor.h \
	client/doctor-machine.c \
	client/doctor-models.c \
	client/memory.c client/memory.h \
	client/model.c client/model.h \
	client/options.c client/options.h \
	client/output.c client/output.h \
	client/program.c client/program.h \
	client/sse.c client/sse.h \
	client/vectors.c client/vectors.h \
	client/verb-bench.c \
	client/verb-chat.c \
	client/verb-completion.c \
	client/verb-config.c \
	client/verb-doctor.c \
	client/verb-inspect.c \
	client/verb-key.c \
	client/verb-load.c \
	client/verb-log.c \
	client/verb-ls.c \
	client/verb-plugins.c \
	client/verb-quantize.c \
	client/verb-render.c \
	client/verb-run.c \
	client/verb-status.c \
	client/verb-tokenize.c \
	client/verb-top.c \
	client/verb-verify.c \
	client/verb.h
client_libdsctl_a_CPPFLAGS = $(AM_CPPFLAGS) -I$(top_srcdir)/lib $(CURL_CFLAGS) $(EDIT_CFLAGS) $(JANSSON_CFLAGS) $(SYSTEMD_CFLAGS) -DDS_SBINDIR='"$(sbindir)"' \
	-DPLUGINDIR='"$(plugindir)"' -DHELPERDIR='"$(helperdir)"'

bin_PROGRAMS += dsctl
dsctl_SOURCES = client/main.c
dsctl_CPPFLAGS = $(client_libdsctl_a_CPPFLAGS)
dsctl_LDADD = client/libdsctl.a lib/libds.a $(CURL_LIBS) $(EDIT_LIBS) $(JANSSON_LIBS) $(SYSTEMD_LIBS)

# The completions are what dsctl prints of its own tables.
bashcompletiondir = $(datadir)/bash-completion/completions
bashcompletion_DATA = client/dsctl
zshcompletiondir = $(datadir)/zsh/site-functions
zshcompletion_DATA = client/_dsctl
fishcompletiondir = $(datadir)/fish/vendor_completions.d
fishcompletion_DATA = client/dsctl.fish
CLEANFILES += client/dsctl client/_dsctl client/dsctl.fish

client/dsctl: dsctl$(EXEEXT)
	$(AM_V_GEN)./dsctl$(EXEEXT) completion bash >$@.tmp && mv $@.tmp $@
client/_dsctl: dsctl$(EXEEXT)
	$(AM_V_GEN)./dsctl$(EXEEXT) completion zsh >$@.tmp && mv $@.tmp $@
client/dsctl.fish: dsctl$(EXEEXT)
	$(AM_V_GEN)./dsctl$(EXEEXT) completion fish >$@.tmp && mv $@.tmp $@
