/* route.c - which experts a row goes to. A tie goes to the lowest index, and scores that are not numbers still give k
 * different experts: what comes out is used as an index. */
#include "cpu.h"

#include <math.h>

struct route_job {
	const struct ds_cpu *cpu;
	const struct ds_route *op;
};

/* The index of the largest score, the lowest of equals; the first of all when none compares. @n > 0. */
static size_t best_of(const float *scores, size_t n)
{
	size_t best = 0;

	for (size_t i = 1; i < n; i++)
		if (scores[i] > scores[best])
			best = i;
	return best;
}

/* p = the experts' affinities to the row, unbiased. */
static void score(const struct ds_route *op, const float *logits, float *p)
{
	float top = logits[best_of(logits, op->n_experts)];
	double sum = 0;

	for (size_t e = 0; e < op->n_experts; e++) {
		p[e] = op->scoring == DS_SCORING_SIGMOID ? 1 / (1 + expf(-logits[e])) : expf(logits[e] - top);
		sum += p[e];
	}
	if (op->scoring == DS_SCORING_SOFTMAX)
		for (size_t e = 0; e < op->n_experts; e++)
			p[e] = (float)(p[e] / sum);
}

/* V2: the best expert of a group; V3: the sum of its two best. */
static float group_score(const struct ds_route *op, const float *choice, size_t n)
{
	float first = -INFINITY, second = -INFINITY;

	for (size_t e = 0; e < n; e++) {
		if (choice[e] > first) {
			second = first;
			first = choice[e];
		} else if (choice[e] > second) {
			second = choice[e];
		}
	}
	return op->scoring == DS_SCORING_SIGMOID && n > 1 ? first + second : first;
}

/* Take the experts outside the best n_groups_used groups of consecutive experts out of the choice. */
static void limit_groups(const struct ds_route *op, float *choice, float *groups, float *kept)
{
	size_t size = op->n_experts / op->n_groups;

	for (size_t g = 0; g < op->n_groups; g++) {
		groups[g] = group_score(op, choice + g * size, size);
		kept[g] = 0;
	}
	for (size_t i = 0; i < op->n_groups_used; i++) {
		size_t g = best_of(groups, op->n_groups);

		kept[g] = 1;
		groups[g] = -INFINITY;
	}
	for (size_t e = 0; e < op->n_experts; e++)
		if (!kept[e / size < op->n_groups ? e / size : op->n_groups - 1])
			choice[e] = -INFINITY;
}

/* The best expert by @choice that is not taken yet. There is one: k <= n_experts. */
static size_t best_left(const struct ds_route *op, const float *choice, const float *taken)
{
	size_t best = op->n_experts;

	for (size_t e = 0; e < op->n_experts; e++)
		if (!taken[e] && (best == op->n_experts || choice[e] > choice[best]))
			best = e;
	return best;
}

static void route_row(const struct ds_route *op, size_t row, float *scratch)
{
	size_t n = op->n_experts, i = 0;
	float *p = scratch, *choice = p + n, *taken = choice + n, *groups = taken + n, *kept = groups + op->n_groups;
	double sum = 0;

	score(op, op->logits + row * n, p);
	for (size_t e = 0; e < n; e++) {
		choice[e] = op->bias ? p[e] + op->bias[e] : p[e];
		taken[e] = 0;
	}
	if (op->n_groups > 1 && op->n_groups_used < op->n_groups)
		limit_groups(op, choice, groups, kept);
	for (size_t j = 0; j < op->k; j++) {
		size_t e = best_left(op, choice, taken);

		taken[e] = 1;
		sum += p[e];
	}
	for (size_t e = 0; e < n; e++) {
		if (!taken[e])
			continue;
		op->ids[row * op->k + i] = (uint32_t)e;
		op->weights[row * op->k + i] = (float)((op->normalize ? p[e] / (sum + 1e-20) : p[e]) * op->scale);
		i++;
	}
}

static void route_rows(void *arg, size_t first, size_t last, unsigned member)
{
	const struct route_job *job = arg;

	for (size_t r = first; r < last; r++)
		route_row(job->op, r, ds_cpu_scratch(job->cpu, member));
}

void ds_cpu_route(void *self, const struct ds_route *op)
{
	struct ds_cpu *cpu = self;
	struct route_job job = {.cpu = cpu, .op = op};

	ds_team_run(cpu->team, op->n, 4, route_rows, &job);
}
