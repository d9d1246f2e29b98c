/* errors.c - the names of errors, and saying no. */
#include "parts.h"

#include <string.h>

/* Codes of FAILED, docs/architecture.md. */
static const struct {
	const char *code, *error;
} names[] = {
	{"cancelled", DS_BUS_CANCELLED},
	{"context_length_exceeded", "org.deepseekd1.Error.ContextLengthExceeded"},
	{"engine_died", "org.deepseekd1.Error.EngineDied"},
	{"invalid_request", SD_BUS_ERROR_INVALID_ARGS},
	{"model_failed", DS_BUS_LOAD_FAILED},
	{"model_has_no_dialect", "org.deepseekd1.Error.NotCapable"},
	{"model_has_no_tokenizer", "org.deepseekd1.Error.NotCapable"},
	{"overloaded", "org.deepseekd1.Error.Overloaded"},
	{"shutting_down", "org.deepseekd1.Error.ShuttingDown"},
	{"too_long", SD_BUS_ERROR_LIMITS_EXCEEDED},
};

const char *ds_bus_error_name(const char *code)
{
	for (size_t i = 0; i < DS_ARRAY_SIZE(names); i++)
		if (!strcmp(names[i].code, code))
			return names[i].error;
	return SD_BUS_ERROR_FAILED;
}

int ds_bus_refuse(sd_bus_message *m, const char *error, const char *fmt, ...)
{
	char message[600];
	va_list args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	sd_bus_reply_method_errorf(m, error, "%s", message);
	return 1;
}
