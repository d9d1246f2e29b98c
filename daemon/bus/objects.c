/* objects.c - org.freedesktop.DBus.ObjectManager at the root: all models, and of the requests those that the asker may
 * see. sd-bus answers the rest of this interface itself, and would answer this as well, but to everybody alike. */
#include "parts.h"

static int get_managed_objects(struct ds_bus *bus, sd_bus_message *m, struct ds_subject *subject)
{
	ds_cleanup(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
	int e = sd_bus_message_new_method_return(m, &reply);

	if (e >= 0)
		e = sd_bus_message_open_container(reply, 'a', "{oa{sa{sv}}}");
	if (e >= 0)
		e = ds_bus_models_append(bus, reply);
	for (const struct ds_bus_request *r = bus->requests; e >= 0 && r; r = r->next)
		if (ds_bus_object_is_visible(r, subject))
			e = ds_bus_object_append(reply, r);
	if (e >= 0)
		e = sd_bus_message_close_container(reply);
	if (e >= 0)
		e = sd_bus_send(NULL, reply, NULL);
	return e < 0 ? e : 1;
}

int ds_bus_objects_on_call(sd_bus_message *m, void *bus, sd_bus_error *error)
{
	if (!sd_bus_message_is_method_call(m, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects"))
		return 0;
	return ds_bus_with_subject(bus, m, get_managed_objects);
}
