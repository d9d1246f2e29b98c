/* units.c - sizes, durations and percentages as people write them. */
#include "units.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit sizes[] = {
	{"", 1}, {"B", 1}, {"KiB", 1ull << 10}, {"MiB", 1ull << 20}, {"GiB", 1ull << 30}, {"TiB", 1ull << 40},
};

static const struct unit durations[] = {
	{"", 1000000},         {"us", 1}, {"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000ull},
	{"d", 86400000000ull},
};

static int with_unit(const char *text, const struct unit *units, size_t n_units, uint64_t *out)
{
	uint64_t value = 0;
	const char *p = text;

	if (*p < '0' || *p > '9')
		return -EINVAL;
	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *p - '0', &value))
			return -ERANGE;
	while (*p == ' ')
		p++;
	for (size_t i = 0; i < n_units; i++) {
		if (strcmp(p, units[i].name))
			continue;
		if (__builtin_mul_overflow(value, units[i].factor, &value))
			return -ERANGE;
		*out = value;
		return 0;
	}
	return -EINVAL;
}

int ds_units_size(const char *text, uint64_t *bytes)
{
	return with_unit(text, sizes, DS_ARRAY_SIZE(sizes), bytes);
}

int ds_units_duration(const char *text, uint64_t *usec)
{
	return with_unit(text, durations, DS_ARRAY_SIZE(durations), usec);
}

int ds_units_percent(const char *text, unsigned *percent)
{
	static const struct unit sign[] = {{"%", 1}};
	uint64_t value;
	int r = with_unit(text, sign, 1, &value);

	if (r < 0)
		return r;
	if (value < 1 || value > 100)
		return -ERANGE;
	*percent = (unsigned)value;
	return 0;
}

const char *ds_units_format_size(char out[32], uint64_t bytes)
{
	size_t unit = 1;

	while (unit + 1 < DS_ARRAY_SIZE(sizes) && bytes >= sizes[unit + 1].factor)
		unit++;
	if (unit == 1)
		snprintf(out, 32, "%llu B", (unsigned long long)bytes);
	else
		snprintf(out, 32, "%.1f %s", (double)bytes / (double)sizes[unit].factor, sizes[unit].name);
	return out;
}

int ds_units_address(const char *text, struct sockaddr_storage *address, socklen_t *size)
{
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	const char *colon = strrchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : 0;
	bool brackets = length > 2 && text[0] == '[' && text[length - 1] == ']';
	unsigned long port;
	char host[64];

	if (!colon || strspn(colon + 1, "0123456789") != strlen(colon + 1) || strlen(colon + 1) > 5)
		return -EINVAL;
	port = strtoul(colon + 1, NULL, 10);
	if (port < 1 || port > 65535 || length >= sizeof(host))
		return -EINVAL;
	snprintf(host, sizeof(host), "%.*s", (int)(length - 2 * brackets), text + brackets);
	v4.sin_port = v6.sin6_port = htons((uint16_t)port);
	*address = (struct sockaddr_storage){0};
	if (brackets && inet_pton(AF_INET6, host, &v6.sin6_addr) == 1) {
		memcpy(address, &v6, *size = sizeof(v6));
		return 0;
	}
	if (brackets || inet_pton(AF_INET, host, &v4.sin_addr) != 1)
		return -EINVAL;
	memcpy(address, &v4, *size = sizeof(v4));
	return 0;
}
