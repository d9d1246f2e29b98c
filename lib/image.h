/* image.h - the model image: one sealed memfd that holds a whole model, written once by ds-loader, mapped by engines.
 *
 *   header | hyperparameters | vocabulary | tensor table | files, places | tensors
 *
 * Every reference is an offset from the start of the image. Sections start at multiples of 4096, tensors at multiples
 * of 64. Little-endian, plain structs. The reader believes nothing: ds_image_open() checks every offset, size and count
 * against the size of the map before anything else looks at it, and the caller can then use what it borrows.
 *
 * A tensor of a mapped model may stay in the checkpoint's own files: then the table says in which, where, and what the
 * files were like (struct ds_image_place, struct ds_image_file), and ds_image_map_files() brings them in. */
#pragma once

#include <deepseekd/model.h>

#define DS_IMAGE_MAGIC 0x31676d4964736c64ull
#define DS_IMAGE_VERSION 3u
#define DS_IMAGE_SECTION_ALIGN 4096u
#define DS_IMAGE_TENSOR_ALIGN 64u
#define DS_IMAGE_NAME_MAX 96
#define DS_IMAGE_MAX_FILES 199 /* of one that is mapped: with the image, the descriptors of a message */

enum ds_image_section_id {
	DS_SECTION_HPARAMS,	 /* struct ds_hparams */
	DS_SECTION_VOCABULARY,	 /* struct ds_image_vocabulary; size 0: the model has no tokenizer */
	DS_SECTION_TOKENS,	 /* struct ds_image_token [n_tokens] */
	DS_SECTION_MERGES,	 /* struct ds_merge [n_merges] */
	DS_SECTION_SCORES,	 /* float [n_tokens], or nothing */
	DS_SECTION_TEXT,	 /* bytes of tokens and patterns, each followed by a NUL */
	DS_SECTION_TENSOR_TABLE, /* struct ds_image_tensor [n_tensors] */
	DS_SECTION_FILES,	 /* struct ds_image_file [...], or nothing */
	DS_SECTION_PLACES,	 /* struct ds_image_place [...], or nothing */
	DS_SECTION_TENSORS,
	DS_N_SECTIONS,
};

struct ds_image_section {
	uint64_t offset, size;
};

struct ds_image_header {
	uint64_t magic;
	uint32_t version;
	uint32_t n_tensors;
	uint64_t size; /* of the image */
	char dialect[32];
	char backend[64]; /* identity() of the backend that packed the tensors */
	struct ds_image_section sections[DS_N_SECTIONS];
};

struct ds_image_text {
	uint32_t offset, size; /* in DS_SECTION_TEXT */
};

struct ds_image_token {
	struct ds_image_text text;
	uint32_t flags;
};

struct ds_image_vocabulary {
	char tokenizer[32];
	uint32_t n_tokens, n_merges, n_patterns, n_eos;
	struct ds_image_text patterns[DS_MAX_PATTERNS];
	uint32_t eos[DS_MAX_EOS];
	uint32_t bos, unknown;
	uint8_t nfc, ignore_merges, add_bos, add_space_prefix;
};

struct ds_image_tensor {
	char name[DS_IMAGE_NAME_MAX];
	uint32_t dtype;
	uint32_t layout;
	uint32_t n_dims;
	uint32_t n_places; /* 0: it lies in the image; 1: whole in a file; shape[0]: each matrix of a stack in a file */
	uint64_t shape[DS_MAX_DIMS];
	uint64_t offset, size; /* in the image; the offset of one in a file is 0 */
	uint64_t first_place;  /* in DS_SECTION_PLACES */
};

/* A file of the checkpoint, and how it is told from another one of that name. */
struct ds_image_file {
	char name[256]; /* base name */
	uint64_t size, device, inode;
	int64_t mtime_s, mtime_ns;
};

struct ds_image_place {
	uint32_t file, reserved;
	uint64_t offset;
};

/* What the address of a tensor in a file is a multiple of, at least. */
static inline uint64_t ds_image_place_align(uint32_t dtype)
{
	return dtype == DS_DTYPE_F32 ? 4 : 2;
}

/* A mapped and checked image. */
struct ds_image;

/* Map @fd (borrowed) read-only at a 2 MiB-aligned address and check all of it. Unless @sealed is false, all of
 * F_SEAL_SHRINK, GROW, WRITE and SEAL must be set. -EINVAL: not an image, or one that contradicts itself. */
int ds_image_open(struct ds_image **out, int fd, bool sealed, struct ds_error *err);
struct ds_image *ds_image_free(struct ds_image *image); /* takes NULL, returns NULL */
DS_DEFINE_FREEP(ds_image)

const struct ds_hparams *ds_image_hparams(const struct ds_image *image);
const struct ds_vocabulary *ds_image_vocabulary(const struct ds_image *image); /* NULL: none */
const char *ds_image_dialect(const struct ds_image *image);
const char *ds_image_backend(const struct ds_image *image);
const void *ds_image_data(const struct ds_image *image, uint64_t *size);
/* The files that some tensors stay in, in the order of their descriptors. */
const struct ds_image_file *ds_image_files(const struct ds_image *image, uint32_t *n);
/* Map them: @fds (borrowed) are as many, and the very files that the loader saw. -ESTALE: one changed. */
int ds_image_map_files(struct ds_image *image, const int *fds, unsigned n_fds, struct ds_error *err);

/* Where the elements of @tensor are. *@matrices: where each matrix of the stack is, or NULL: one after the other. NULL: in
 * files that are not mapped. */
const void *ds_image_tensor_data(const struct ds_image *image, const struct ds_image_tensor *tensor,
				 const void *const **matrices);
/* All of the table, sorted by name. */
const struct ds_image_tensor *ds_image_tensors(const struct ds_image *image, uint32_t *n);
/* The table entry of @name, or NULL. Binary search: the table is sorted by name. */
const struct ds_image_tensor *ds_image_tensor(const struct ds_image *image, const char *name);
