# Plugins for tests: one that may be used, and one for each reason to refuse it.
test_plugins = \
	tests/plugins/first-token.so \
	tests/plugins/failing-vector.so \
	tests/plugins/misnamed.so \
	tests/plugins/no-symbol.so \
	tests/plugins/wrong-abi.so
check_PROGRAMS += $(test_plugins)

tests_plugins_first_token_so_SOURCES = tests/plugins/first-token.c
tests_plugins_first_token_so_CPPFLAGS = $(plugin_cppflags) -DNAME='"first-token"'
tests_plugins_first_token_so_CFLAGS = $(plugin_cflags)
tests_plugins_first_token_so_LDFLAGS = $(plugin_ldflags)

tests_plugins_failing_vector_so_SOURCES = tests/plugins/first-token.c
tests_plugins_failing_vector_so_CPPFLAGS = $(plugin_cppflags) -DNAME='"failing-vector"' -DEXPECTED='"{\"ids\": [1]}"'
tests_plugins_failing_vector_so_CFLAGS = $(plugin_cflags)
tests_plugins_failing_vector_so_LDFLAGS = $(plugin_ldflags)

tests_plugins_misnamed_so_SOURCES = tests/plugins/first-token.c
tests_plugins_misnamed_so_CPPFLAGS = $(plugin_cppflags) -DNAME='"another"'
tests_plugins_misnamed_so_CFLAGS = $(plugin_cflags)
tests_plugins_misnamed_so_LDFLAGS = $(plugin_ldflags)

tests_plugins_no_symbol_so_SOURCES = tests/plugins/first-token.c
tests_plugins_no_symbol_so_CPPFLAGS = $(plugin_cppflags) -DNAME='"no-symbol"' -DSYMBOL=other_plugin
tests_plugins_no_symbol_so_CFLAGS = $(plugin_cflags)
tests_plugins_no_symbol_so_LDFLAGS = $(plugin_ldflags)

tests_plugins_wrong_abi_so_SOURCES = tests/plugins/first-token.c
tests_plugins_wrong_abi_so_CPPFLAGS = $(plugin_cppflags) -DNAME='"wrong-abi"' -DABI=7
tests_plugins_wrong_abi_so_CFLAGS = $(plugin_cflags)
tests_plugins_wrong_abi_so_LDFLAGS = $(plugin_ldflags)
