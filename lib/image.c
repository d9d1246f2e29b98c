/* image.c - maps a model image and checks all of it, so that what is borrowed afterwards needs no second look. */
#include "image.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define ALIGN (2ull << 20) /* of the map: a huge page */
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL)

struct ds_image {
	const uint8_t *data;
	uint64_t size;
	const struct ds_image_header *header;
	const struct ds_hparams *hparams;
	const struct ds_image_tensor *tensors; /* [header->n_tensors] */
	const char *text;                      /* [text_size] */
	uint64_t text_size;
	struct ds_vocabulary vocabulary; /* tokenizer NULL: none */
	struct ds_token *tokens;         /* [vocabulary.n_tokens] */
	const struct ds_image_file *files;   /* [n_files] */
	const struct ds_image_place *places; /* [n_places] */
	uint32_t n_files;
	uint64_t n_places;
	void **file_data;    /* [n_files]: maps, NULL until they are made */
	const void **at;     /* [n_places]: where each place is */
};

static const char *const section_names[] = {
	[DS_SECTION_HPARAMS] = "hyperparameters",
	[DS_SECTION_VOCABULARY] = "vocabulary",
	[DS_SECTION_TOKENS] = "tokens",
	[DS_SECTION_MERGES] = "merges",
	[DS_SECTION_SCORES] = "scores",
	[DS_SECTION_TEXT] = "text",
	[DS_SECTION_TENSOR_TABLE] = "tensor table",
	[DS_SECTION_FILES] = "files",
	[DS_SECTION_PLACES] = "places",
	[DS_SECTION_TENSORS] = "tensors",
};

static int check_seals(int fd, struct ds_error *err)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return ds_fail(err, -errno, "the image has no seals: %s", strerror(errno));
	if ((seals & SEALS) != SEALS)
		return ds_fail(err, -EPERM, "the image is not sealed: 0x%x, needed 0x%x", (unsigned)seals,
			       (unsigned)SEALS);
	return 0;
}

/* Map all of @fd at a multiple of ALIGN, by reserving that much more and giving the rest back. */
static int map(struct ds_image *image, int fd, struct ds_error *err)
{
	uint64_t size = image->size, reserved = size + ALIGN;
	uintptr_t start, aligned;
	void *p;

	if (size > SIZE_MAX - ALIGN)
		return ds_fail(err, -EFBIG, "an image of %llu bytes", (unsigned long long)size);
	p = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return ds_fail(err, -errno, "no addresses for an image of %llu bytes: %s", (unsigned long long)size,
			       strerror(errno));
	start = (uintptr_t)p;
	aligned = (start + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1);
	if (mmap((void *)aligned, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
		int r = ds_fail(err, -errno, "the image cannot be mapped: %s", strerror(errno));

		munmap(p, reserved);
		return r;
	}
	image->data = (const uint8_t *)aligned;
	/* the map ends at the next page; what lies before and after goes back */
	if (aligned > start)
		munmap(p, aligned - start);
	size = (size + 4095) & ~4095ull;
	munmap((void *)(aligned + size), start + ((reserved + 4095) & ~4095ull) - (aligned + size));
	return 0;
}

static bool is_text(const char *text, size_t room)
{
	return memchr(text, 0, room) != NULL;
}

static int check_header(const struct ds_image *image, struct ds_error *err)
{
	const struct ds_image_header *h = image->header;
	uint64_t end = sizeof(*h);

	if (h->magic != DS_IMAGE_MAGIC)
		return ds_fail(err, -EINVAL, "not a model image");
	if (h->version != DS_IMAGE_VERSION)
		return ds_fail(err, -EINVAL, "a model image of version %u, this is %u", h->version, DS_IMAGE_VERSION);
	if (h->size != image->size)
		return ds_fail(err, -EINVAL, "the image says %llu bytes and has %llu", (unsigned long long)h->size,
			       (unsigned long long)image->size);
	if (!is_text(h->dialect, sizeof(h->dialect)) || !is_text(h->backend, sizeof(h->backend)))
		return ds_fail(err, -EINVAL, "a name in the image's header does not end");
	for (unsigned i = 0; i < DS_N_SECTIONS; i++) {
		const struct ds_image_section *s = &h->sections[i];

		if (s->size == 0 && s->offset <= image->size)
			continue;
		if (s->offset % DS_IMAGE_SECTION_ALIGN || s->offset < end || s->offset > image->size ||
		    s->size > image->size - s->offset)
			return ds_fail(err, -EINVAL, "section %s of the image is out of place", section_names[i]);
		end = s->offset + s->size;
	}
	return 0;
}

/* The @count structs of @size in section @id, or NULL if the section has another size. */
static const void *section(const struct ds_image *image, enum ds_image_section_id id, uint64_t count, size_t size,
			   struct ds_error *err)
{
	const struct ds_image_section *s = &image->header->sections[id];

	if (s->size / size == count && s->size % size == 0)
		return image->data + s->offset;
	ds_fail(err, -EINVAL, "section %s of the image has %llu bytes for %llu elements", section_names[id],
		(unsigned long long)s->size, (unsigned long long)count);
	return NULL;
}

/* Does @t lie in the text section, followed by a NUL? */
static bool text_fits(const struct ds_image *image, const struct ds_image_text *t)
{
	return t->offset < image->text_size && t->size < image->text_size - t->offset &&
	       image->text[t->offset + t->size] == 0;
}

static bool id_fits(const struct ds_image *image, uint32_t id)
{
	return id < image->hparams->vocab;
}

static int check_vocabulary(const struct ds_image *image, const struct ds_image_vocabulary *v, struct ds_error *err)
{
	if (!is_text(v->tokenizer, sizeof(v->tokenizer)) || !*v->tokenizer)
		return ds_fail(err, -EINVAL, "the image's vocabulary names no tokenizer");
	if (v->n_tokens > image->hparams->vocab)
		return ds_fail(err, -EINVAL, "the image has %u tokens, the model %u", v->n_tokens,
			       image->hparams->vocab);
	if (v->n_patterns > DS_MAX_PATTERNS || v->n_eos > DS_MAX_EOS)
		return ds_fail(err, -EINVAL, "the image has %u patterns and %u end tokens", v->n_patterns, v->n_eos);
	if (v->bos != DS_NO_TOKEN && !id_fits(image, v->bos))
		return ds_fail(err, -EINVAL, "the image's first token %u is out of range", v->bos);
	if (v->unknown != DS_NO_TOKEN && !id_fits(image, v->unknown))
		return ds_fail(err, -EINVAL, "the image's unknown token %u is out of range", v->unknown);
	for (uint32_t i = 0; i < v->n_eos; i++)
		if (!id_fits(image, v->eos[i]))
			return ds_fail(err, -EINVAL, "the image's end token %u is out of range", v->eos[i]);
	for (uint32_t i = 0; i < v->n_patterns; i++)
		if (!text_fits(image, &v->patterns[i]))
			return ds_fail(err, -EINVAL, "pattern %u of the image is out of place", i);
	return 0;
}

static int read_tokens(struct ds_image *image, uint32_t n, struct ds_error *err)
{
	const struct ds_image_token *tokens = section(image, DS_SECTION_TOKENS, n, sizeof(*tokens), err);

	if (!tokens)
		return -EINVAL;
	image->tokens = calloc((size_t)n + 1, sizeof(*image->tokens));
	if (!image->tokens)
		return ds_fail(err, -ENOMEM, "no memory for %u tokens", n);
	for (uint32_t i = 0; i < n; i++) {
		if (!text_fits(image, &tokens[i].text))
			return ds_fail(err, -EINVAL, "the text of token %u of the image is out of place", i);
		image->tokens[i] =
			(struct ds_token){image->text + tokens[i].text.offset, tokens[i].text.size, tokens[i].flags};
	}
	return 0;
}

static int read_vocabulary(struct ds_image *image, struct ds_error *err)
{
	const struct ds_image_section *s = &image->header->sections[DS_SECTION_VOCABULARY];
	const struct ds_image_vocabulary *v;
	const struct ds_merge *merges;
	const float *scores = NULL;
	int r;

	if (s->size == 0)
		return 0;
	v = section(image, DS_SECTION_VOCABULARY, 1, sizeof(*v), err);
	if (!v)
		return -EINVAL;
	image->text = (const char *)image->data + image->header->sections[DS_SECTION_TEXT].offset;
	image->text_size = image->header->sections[DS_SECTION_TEXT].size;
	r = check_vocabulary(image, v, err);
	if (r == 0)
		r = read_tokens(image, v->n_tokens, err);
	if (r < 0)
		return r;
	merges = section(image, DS_SECTION_MERGES, v->n_merges, sizeof(*merges), err);
	if (!merges)
		return -EINVAL;
	for (uint32_t i = 0; i < v->n_merges; i++)
		if (merges[i].left >= v->n_tokens || merges[i].right >= v->n_tokens || merges[i].merged >= v->n_tokens)
			return ds_fail(err, -EINVAL, "merge %u of the image has a token out of range", i);
	if (image->header->sections[DS_SECTION_SCORES].size > 0) {
		scores = section(image, DS_SECTION_SCORES, v->n_tokens, sizeof(*scores), err);
		if (!scores)
			return -EINVAL;
	}
	image->vocabulary = (struct ds_vocabulary){
		.tokenizer = v->tokenizer,
		.tokens = image->tokens,
		.n_tokens = v->n_tokens,
		.merges = merges,
		.n_merges = v->n_merges,
		.scores = scores,
		.n_patterns = v->n_patterns,
		.nfc = v->nfc,
		.ignore_merges = v->ignore_merges,
		.add_bos = v->add_bos,
		.add_space_prefix = v->add_space_prefix,
		.bos = v->bos,
		.unknown = v->unknown,
		.n_eos = v->n_eos,
	};
	memcpy(image->vocabulary.eos, v->eos, sizeof(v->eos));
	for (uint32_t i = 0; i < v->n_patterns; i++)
		image->vocabulary.patterns[i] = image->text + v->patterns[i].offset;
	return 0;
}

/* The number of elements of @t, or 0 if the shape is none or too large to count in bytes. */
static uint64_t count_elements(const struct ds_image_tensor *t)
{
	uint64_t count = 1;

	if (t->n_dims == 0 || t->n_dims > DS_MAX_DIMS)
		return 0;
	for (uint32_t i = 0; i < DS_MAX_DIMS; i++) {
		if (i >= t->n_dims && t->shape[i] != 1)
			return 0;
		if (__builtin_mul_overflow(count, t->shape[i], &count) || count > UINT64_MAX / 8)
			return 0;
	}
	return count;
}

static int check_files(struct ds_image *image, struct ds_error *err)
{
	const struct ds_image_section *files = &image->header->sections[DS_SECTION_FILES];
	const struct ds_image_section *places = &image->header->sections[DS_SECTION_PLACES];

	if (files->size % sizeof(*image->files) || files->size / sizeof(*image->files) > DS_IMAGE_MAX_FILES ||
	    places->size % sizeof(*image->places))
		return ds_fail(err, -EINVAL, "the image has files of %llu bytes and places of %llu",
			       (unsigned long long)files->size, (unsigned long long)places->size);
	image->n_files = (uint32_t)(files->size / sizeof(*image->files));
	image->n_places = places->size / sizeof(*image->places);
	image->files = (const struct ds_image_file *)(image->data + files->offset);
	image->places = (const struct ds_image_place *)(image->data + places->offset);
	for (uint32_t i = 0; i < image->n_files; i++) {
		const struct ds_image_file *f = &image->files[i];

		if (!is_text(f->name, sizeof(f->name)) || !*f->name || strchr(f->name, '/') || f->size == 0 ||
		    f->size > INT64_MAX)
			return ds_fail(err, -EINVAL, "file %u of the image has no name or no size", i);
	}
	return 0;
}

/* Each matrix of @t, which stays in files, lies in one of them. */
static int check_places(const struct ds_image *image, const struct ds_image_tensor *t, struct ds_error *err)
{
	uint64_t size;

	if (t->n_dims < 2 || t->layout != 0 || t->offset != 0 || t->first_place > image->n_places ||
	    t->n_places > image->n_places - t->first_place ||
	    (t->n_places != 1 && (t->n_dims != 3 || t->n_places != t->shape[0])))
		return ds_fail(err, -EINVAL, "tensor %s of the image has %u places from %llu on", t->name, t->n_places,
			       (unsigned long long)t->first_place);
	size = t->size / t->n_places;
	for (uint32_t i = 0; i < t->n_places; i++) {
		const struct ds_image_place *p = &image->places[t->first_place + i];

		if (p->file >= image->n_files || p->offset % ds_image_place_align(t->dtype) ||
		    p->offset > image->files[p->file].size || size > image->files[p->file].size - p->offset)
			return ds_fail(err, -EINVAL, "place %u of tensor %s of the image is in no file", i, t->name);
	}
	return 0;
}

static int check_tensor(const struct ds_image *image, uint32_t i, struct ds_error *err)
{
	const struct ds_image_section *s = &image->header->sections[DS_SECTION_TENSORS];
	const struct ds_image_tensor *t = &image->tensors[i];
	uint64_t count = count_elements(t), cols, size = 0;

	if (!is_text(t->name, sizeof(t->name)) || !*t->name)
		return ds_fail(err, -EINVAL, "tensor %u of the image has no name", i);
	if (i > 0 && strcmp(image->tensors[i - 1].name, t->name) >= 0)
		return ds_fail(err, -EINVAL, "tensor %s of the image is out of order", t->name);
	if (!ds_dtype_info(t->dtype) || count == 0)
		return ds_fail(err, -EINVAL, "tensor %s of the image has type %u and %u dimensions", t->name, t->dtype,
			       t->n_dims);
	cols = t->shape[t->n_dims - 1];
	if (__builtin_mul_overflow(count / cols, ds_row_size((enum ds_dtype)t->dtype, cols), &size) ||
	    (t->layout == 0 && t->size < size) || (t->n_places > 0 && t->size != size))
		return ds_fail(err, -EINVAL, "tensor %s of the image has %llu bytes, its shape needs more", t->name,
			       (unsigned long long)t->size);
	if (t->n_places > 0)
		return check_places(image, t, err);
	if (t->size == 0 || t->offset % DS_IMAGE_TENSOR_ALIGN || t->offset < s->offset || t->offset - s->offset > s->size ||
	    t->size > s->size - (t->offset - s->offset))
		return ds_fail(err, -EINVAL, "tensor %s of the image is out of place", t->name);
	return 0;
}

static int check(struct ds_image *image, struct ds_error *err)
{
	int r = check_header(image, err);

	if (r < 0)
		return r;
	image->hparams = section(image, DS_SECTION_HPARAMS, 1, sizeof(*image->hparams), err);
	if (!image->hparams)
		return -EINVAL;
	if (!is_text(image->hparams->architecture, sizeof(image->hparams->architecture)))
		return ds_fail(err, -EINVAL, "the name of the image's architecture does not end");
	r = read_vocabulary(image, err);
	if (r < 0)
		return r;
	image->tensors =
		section(image, DS_SECTION_TENSOR_TABLE, image->header->n_tensors, sizeof(*image->tensors), err);
	if (!image->tensors)
		return -EINVAL;
	r = check_files(image, err);
	for (uint32_t i = 0; r == 0 && i < image->header->n_tensors; i++)
		r = check_tensor(image, i, err);
	return r;
}

int ds_image_open(struct ds_image **out, int fd, bool sealed, struct ds_error *err)
{
	ds_cleanup(ds_image_freep) struct ds_image *image = NULL;
	struct stat st;
	int r = sealed ? check_seals(fd, err) : 0;

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return ds_fail(err, -errno, "the image: %s", strerror(errno));
	if ((uint64_t)st.st_size < sizeof(struct ds_image_header))
		return ds_fail(err, -EINVAL, "not a model image: %lld bytes", (long long)st.st_size);
	image = calloc(1, sizeof(*image));
	if (!image)
		return ds_fail(err, -ENOMEM, "no memory for an image");
	image->size = (uint64_t)st.st_size;
	r = map(image, fd, err);
	if (r < 0)
		return r;
	image->header = (const struct ds_image_header *)image->data;
	r = check(image, err);
	if (r < 0)
		return r;
	*out = ds_steal(&image);
	return 0;
}

struct ds_image *ds_image_free(struct ds_image *image)
{
	if (!image)
		return NULL;
	for (uint32_t i = 0; image->file_data && i < image->n_files; i++)
		if (image->file_data[i])
			munmap(image->file_data[i], image->files[i].size);
	free(image->file_data);
	free(image->at);
	if (image->data)
		munmap((void *)image->data, image->size);
	free(image->tokens);
	free(image);
	return NULL;
}

const struct ds_hparams *ds_image_hparams(const struct ds_image *image)
{
	return image->hparams;
}

const struct ds_vocabulary *ds_image_vocabulary(const struct ds_image *image)
{
	return image->vocabulary.tokenizer ? &image->vocabulary : NULL;
}

const char *ds_image_dialect(const struct ds_image *image)
{
	return image->header->dialect;
}

const char *ds_image_backend(const struct ds_image *image)
{
	return image->header->backend;
}

const void *ds_image_data(const struct ds_image *image, uint64_t *size)
{
	*size = image->size;
	return image->data;
}

const struct ds_image_file *ds_image_files(const struct ds_image *image, uint32_t *n)
{
	*n = image->n_files;
	return image->files;
}

/* Is @fd what @file says? */
static int check_identity(const struct ds_image_file *file, int fd, struct ds_error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != file->size ||
	    (uint64_t)st.st_dev != file->device || (uint64_t)st.st_ino != file->inode ||
	    st.st_mtim.tv_sec != file->mtime_s || st.st_mtim.tv_nsec != file->mtime_ns)
		return ds_fail(err, -ESTALE, "%s changed", file->name);
	return 0;
}

int ds_image_map_files(struct ds_image *image, const int *fds, unsigned n_fds, struct ds_error *err)
{
	if (n_fds != image->n_files || image->file_data)
		return ds_fail(err, -EPROTO, "the image is of %u mapped files, there are %u", image->n_files, n_fds);
	if (n_fds == 0)
		return 0;
	image->file_data = calloc(image->n_files, sizeof(*image->file_data));
	image->at = calloc(image->n_places + 1, sizeof(*image->at));
	if (!image->file_data || !image->at)
		return ds_fail(err, -ENOMEM, "no memory for %u mapped files", n_fds);
	for (uint32_t i = 0; i < image->n_files; i++) {
		const struct ds_image_file *file = &image->files[i];
		int r = check_identity(file, fds[i], err);
		void *p;

		if (r < 0)
			return r;
		p = mmap(NULL, file->size, PROT_READ, MAP_SHARED, fds[i], 0);
		if (p == MAP_FAILED)
			return ds_fail(err, -errno, "%s cannot be mapped: %s", file->name, strerror(errno));
		image->file_data[i] = p;
	}
	for (uint32_t i = 0; i < image->header->n_tensors; i++)
		for (uint64_t j = 0; j < image->tensors[i].n_places; j++) {
			uint64_t n = image->tensors[i].first_place + j;

			image->at[n] = (const char *)image->file_data[image->places[n].file] + image->places[n].offset;
		}
	return 0;
}

const void *ds_image_tensor_data(const struct ds_image *image, const struct ds_image_tensor *tensor,
				 const void *const **matrices)
{
	*matrices = NULL;
	if (tensor->n_places == 0)
		return image->data + tensor->offset;
	if (!image->at)
		return NULL;
	if (tensor->n_places > 1)
		*matrices = &image->at[tensor->first_place];
	return image->at[tensor->first_place];
}

const struct ds_image_tensor *ds_image_tensors(const struct ds_image *image, uint32_t *n)
{
	*n = image->header->n_tensors;
	return image->tensors;
}

const struct ds_image_tensor *ds_image_tensor(const struct ds_image *image, const char *name)
{
	uint32_t low = 0, high = image->header->n_tensors;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		int order = strcmp(name, image->tensors[middle].name);

		if (order == 0)
			return &image->tensors[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}
