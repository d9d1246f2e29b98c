/* test-access.c - who is in a list, what a unit's name says of its application, and which actions polkit knows. */
#include "../../daemon/access.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static void the_application_is_what_the_launcher_wrote(void **state)
{
	static const struct {
		const char *unit, *app;
	} table[] = {
		{"app-gnome-org.gnome.Terminal-2345.scope", "org.gnome.Terminal"},
		{"app-org.kde.konsole-99.scope", "org.kde.konsole"},
		{"app-flatpak-org.mozilla.firefox-2.scope", "org.mozilla.firefox"},
		{"app-org.gnome.Evince@12ab.service", "org.gnome.Evince"},
		{"app-gnome-org.gnome.Evince.service", "org.gnome.Evince"},
		{"app-kde-visual\\x2dstudio@1.service", "visual-studio"},
		{"app-kde-a\\x2", ""},
		{"app-kde-a\\x2-1.scope", "a\\x2"},
		{"app-kde-a\\x00b-1.scope", "a\\x00b"},
		{"app-x.scope", ""},
		{"app-", ""},
		{"session-2.scope", ""},
		{"ssh.service", ""},
		{"", ""},
	};
	char app[128];

	for (size_t i = 0; i < DS_ARRAY_SIZE(table); i++) {
		ds_subject_app_of_unit(table[i].unit, app, sizeof(app));
		assert_string_equal(app, table[i].app);
	}
}

static void a_peer_has_its_user_and_all_its_groups(void **state)
{
	ds_cleanup(ds_subject_unrefp) struct ds_subject *s = NULL;
	struct ds_error err;
	gid_t groups[1024];
	int ends[2], n = getgroups(1024, groups);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(ds_subject_new_peer(&s, ends[0], &err), 0);
	assert_int_equal(s->uid, getuid());
	assert_int_equal(s->pid, getpid());
	assert_true(ds_subject_has_group(s, getgid()));
	for (int i = 0; i < n; i++)
		assert_true(ds_subject_has_group(s, groups[i]));
	assert_int_equal(s->n_gids, n + 1);
	close(ends[0]);
	close(ends[1]);
}

/* Is @subject in the list @text of @kind? */
static bool is_in(const char *text, enum ds_who_kind kind, const struct ds_subject *subject)
{
	struct ds_problems problems = {0};
	struct ds_yaml *tree = NULL;
	struct ds_who who = {0};
	char yaml[200];
	bool has;

	snprintf(yaml, sizeof(yaml), "list: %s", text);
	assert_int_equal(ds_yaml_parse(&tree, "f", yaml, strlen(yaml), &problems), 0);
	assert_null(ds_who_bad_item(kind, ds_yaml_get(tree, "list")));
	assert_int_equal(ds_who_fill(&who, kind, ds_yaml_get(tree, "list")), 0);
	has = ds_who_has(&who, kind, subject);
	ds_who_deinit(&who);
	ds_yaml_free(tree);
	return has;
}

static void users_are_known_by_name_or_number_and_groups_too(void **state)
{
	static const gid_t gids[] = {100001, 100002};
	ds_cleanup(ds_subject_unrefp) struct ds_subject *s = NULL, *root = NULL;

	assert_int_equal(ds_subject_new_user(&s, 100000, gids, 2), 0);
	assert_int_equal(ds_subject_new_user(&root, 0, NULL, 0), 0);
	assert_true(is_in("[1, 100000]", DS_WHO_USERS, s));
	assert_true(is_in("[root]", DS_WHO_USERS, root));
	assert_false(is_in("[root, 100001]", DS_WHO_USERS, s));
	assert_true(is_in("[100002]", DS_WHO_GROUPS, s));
	assert_false(is_in("[100000, root]", DS_WHO_GROUPS, s));
	assert_true(is_in("[\"*\"]", DS_WHO_GROUPS, root));
	assert_false(is_in("[]", DS_WHO_USERS, root));
	assert_false(is_in("[no-such-user, \"99999999999999999999\", 4294967295]", DS_WHO_USERS, s));
}

static void a_key_is_no_user_whatever_it_is_called(void **state)
{
	ds_cleanup(ds_subject_unrefp) struct ds_subject *key = NULL, *user = NULL;

	assert_int_equal(ds_subject_new_key(&key, "root"), 0);
	assert_int_equal(ds_subject_new_user(&user, 0, NULL, 0), 0);
	assert_string_equal(key->owner, "key:root");
	assert_false(is_in("[root]", DS_WHO_USERS, key));
	assert_false(is_in("[\"*\"]", DS_WHO_USERS, key));
	assert_false(is_in("[4294967295]", DS_WHO_USERS, key));
	assert_true(is_in("[root]", DS_WHO_KEYS, key));
	assert_true(is_in("[\"*\"]", DS_WHO_KEYS, key));
	assert_false(is_in("[laptop]", DS_WHO_KEYS, key));
	assert_false(is_in("[\"*\"]", DS_WHO_KEYS, user));
}

static void every_action_is_in_the_policy_with_its_owner(void **state)
{
	static char text[1 << 16];
	FILE *f = fopen(POLICY_FILE, "r");
	size_t n_actions = 0;

	assert_non_null(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	for (size_t i = 0; i < DS_N_ACTIONS; i++) {
		char wanted[100];
		const char *at, *end;

		snprintf(wanted, sizeof(wanted), "<action id=\"%s\">", ds_actions[i].id);
		at = strstr(text, wanted);
		assert_non_null(at);
		end = strstr(at, "</action>");
		assert_non_null(end);
		/* Without it polkit would not let the daemon's user ask about others. */
		at = strstr(at, "org.freedesktop.policykit.owner\">unix-user:deepseekd<");
		assert_true(at && at < end);
	}
	for (const char *at = text; (at = strstr(at, "<action id=")); at++)
		n_actions++;
	assert_int_equal(n_actions, DS_N_ACTIONS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_application_is_what_the_launcher_wrote),
		cmocka_unit_test(a_peer_has_its_user_and_all_its_groups),
		cmocka_unit_test(users_are_known_by_name_or_number_and_groups_too),
		cmocka_unit_test(a_key_is_no_user_whatever_it_is_called),
		cmocka_unit_test(every_action_is_in_the_policy_with_its_owner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
