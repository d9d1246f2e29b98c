/* routing.c - how config.json says that experts are chosen. */
#include "checkpoint.h"

#define FILE_NAME "config.json"

/* How experts are chosen, as config.json says it. */
static const struct {
	const char *method;  /* topk_method */
	const char *scoring; /* scoring_func */
	enum ds_expert_scoring value;
	bool groups;
} routings[] = {
	{"greedy", "softmax", DS_SCORING_SOFTMAX, false},
	{"group_limited_greedy", "softmax", DS_SCORING_SOFTMAX, true},
	{"noaux_tc", "sigmoid", DS_SCORING_SIGMOID, true},
};

/* What the numbers of the router must satisfy together. */
static int check_experts(const struct ds_hparams *h, struct ds_error *err)
{
	uint32_t per_group;

	if (h->n_experts_used < 1 || h->n_experts_used > h->n_experts)
		return ds_fail(err, -EINVAL,
			       FILE_NAME ": num_experts_per_tok is %u, allowed: 1 to n_routed_experts (%u)",
			       h->n_experts_used, h->n_experts);
	if (h->n_groups < 1 || h->n_experts % h->n_groups)
		return ds_fail(err, -EINVAL, FILE_NAME ": n_group is %u, which does not divide n_routed_experts (%u)",
			       h->n_groups, h->n_experts);
	if (h->n_groups_used < 1 || h->n_groups_used > h->n_groups)
		return ds_fail(err, -EINVAL, FILE_NAME ": topk_group is %u, allowed: 1 to n_group (%u)",
			       h->n_groups_used, h->n_groups);
	per_group = h->n_experts / h->n_groups;
	if (h->expert_scoring == DS_SCORING_SIGMOID && h->n_groups > 1 && per_group < 2)
		return ds_fail(err, -EINVAL, FILE_NAME ": n_group is %u, which leaves less than two experts in a group",
			       h->n_groups);
	if (h->n_experts_used > per_group * h->n_groups_used)
		return ds_fail(err, -EINVAL,
			       FILE_NAME ": num_experts_per_tok is %u, but topk_group groups hold only %u",
			       h->n_experts_used, per_group * h->n_groups_used);
	return 0;
}

int ds_routing_read(struct ds_checkpoint *c, struct ds_error *err)
{
	struct ds_hparams *h = &c->hparams;
	const char *method = c->family == DS_FAMILY_V3 ? "noaux_tc" : "greedy";
	const char *scoring = c->family == DS_FAMILY_V3 ? "sigmoid" : "softmax";
	int r;

	r = ds_json_string(&method, c->config, FILE_NAME, "topk_method", err);
	if (r < 0)
		return r;
	r = ds_json_string(&scoring, c->config, FILE_NAME, "scoring_func", err);
	if (r < 0)
		return r;
	if (h->n_experts == 0) {
		h->n_experts_used = h->n_shared = h->n_groups = h->n_groups_used = 0;
		return 0;
	}
	for (size_t i = 0; i < DS_ARRAY_SIZE(routings); i++) {
		if (strcmp(method, routings[i].method) != 0 || strcmp(scoring, routings[i].scoring) != 0)
			continue;
		h->expert_scoring = routings[i].value;
		if (!routings[i].groups || h->n_groups == 0)
			h->n_groups = h->n_groups_used = 1;
		return check_experts(h, err);
	}
	return ds_fail(err, -ENOTSUP,
		       FILE_NAME ": topk_method %s with scoring_func %s is not supported "
				 "(supported: greedy or group_limited_greedy with softmax, noaux_tc with sigmoid)",
		       ds_shown(method).text, ds_shown(scoring).text);
}
